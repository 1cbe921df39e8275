//! Real servers for the tests: each is started by the test that needs it, in a temporary folder, and killed with its
//! value.

pub mod azure;

use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// Where `scripts/prepare.sh` puts what is not installed.
fn tools() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("the target folder");
    target.join("tools")
}

/// A server process.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It has nothing to lose.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads until a line contains `word`, which is answered; the rest is read and dropped, so that the server never waits.
fn until_it_says(output: impl Read + Send + 'static, word: &str) -> String {
    let mut output = BufReader::new(output);
    let mut said = String::new();
    loop {
        let before = said.len();
        let read = output.read_line(&mut said).expect("readable output");
        assert_ne!(read, 0, "it ended, and said:\n{said}");
        if let Some(line) = said.get(before..).filter(|line| line.contains(word)) {
            let line = line.to_owned();
            std::thread::spawn(move || io::copy(&mut output, &mut io::sink()));
            return line;
        }
    }
}

/// MariaDB, without a network.
pub struct MariaDb {
    /// Where it listens; the user is `root`, without a password, and the database is `test`.
    pub socket: PathBuf,
    _process: Process,
    _folder: TempDir,
}

impl MariaDb {
    /// Makes an empty database, and serves it.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (data, socket) = (folder.path().join("data"), folder.path().join("socket"));
        let usr = tools().join("servers/usr");
        let with_libraries = |program: &str| {
            let mut command = Command::new(usr.join(program));
            let libraries = usr.join("lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
            command.env("LD_LIBRARY_PATH", libraries).arg("--no-defaults");
            command.arg(format!("--basedir={}", usr.display()));
            command.arg(format!("--datadir={}", data.display()));
            command
        };
        let made = with_libraries("bin/mariadb-install-db")
            .args(["--auth-root-authentication-method=normal", "--user=root"])
            .output()
            .expect("MariaDB is unpacked by scripts/prepare.sh");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut child = with_libraries("sbin/mariadbd")
            .args(["--skip-networking", "--user=root", "--innodb-buffer-pool-size=16M"])
            .arg(format!("--socket={}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("MariaDB starts");
        let stderr = child.stderr.take().expect("piped");
        let process = Process(child);
        until_it_says(stderr, "ready for connections");
        Self {
            socket,
            _process: process,
            _folder: folder,
        }
    }

    /// A connection; `found_rows` is what `Dialect::MySql` asks for.
    pub async fn connect(socket: &Path, found_rows: bool) -> mysql_async::Conn {
        let options = mysql_async::OptsBuilder::default()
            .socket(Some(socket.display().to_string()))
            .user(Some("root"))
            .db_name(Some("test"))
            .client_found_rows(found_rows);
        mysql_async::Conn::new(options).await.expect("connected")
    }
}

/// Azurite: Microsoft's own stand-in for Azure Blob Storage, in memory.
pub struct Azurite {
    /// `http://HOST:PORT`.
    pub address: String,
    _process: Process,
}

impl Azurite {
    /// Serves an empty container.
    pub fn start() -> Self {
        let main = tools().join("azurite/node_modules/azurite/dist/src/blob/main.js");
        assert!(main.exists(), "Azurite is installed by scripts/prepare.sh");
        let mut child = Command::new("node")
            .arg(main)
            .args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence"])
            .args(["--silent", "--disableTelemetry", "--skipApiVersionCheck"])
            .env("AZURITE_ACCOUNTS", format!("{}:{}", azure::ACCOUNT, azure::KEY))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node starts");
        let stdout = child.stdout.take().expect("piped");
        let process = Process(child);
        let line = until_it_says(stdout, "successfully listens on");
        let address = line.split_whitespace().last().expect("an address").to_owned();
        Self {
            address,
            _process: process,
        }
    }
}
