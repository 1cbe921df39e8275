#!/usr/bin/env bash
# The core's benches: time by criterion, then instructions and time per hand-off, which must not grow with the line.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo bench --locked -p ticketlock-core --bench rules -- "$@"

program=$(cargo bench --locked -p ticketlock-core --bench rules --no-run 2>&1 | sed -n 's/.*(\(.*rules-[0-9a-f]*\)).*/\1/p')

# instructions WAITERS ROUNDS: of the whole program, counted by callgrind.
instructions() {
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" hand-offs "$1" "$2" 2>&1 >/dev/null |
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

# time WAITERS: nanoseconds per hand-off, the least of five runs, for the machine may be busy.
nanoseconds() {
  for _ in 1 2 3 4 5; do "$program" hand-offs "$1" 200000; done | sort -n | head -1
}

printf '\n%10s %24s %18s\n' waiters instructions/hand-off ns/hand-off
counts=() times=()
for waiters in 1 1000 100000; do
  few=$(instructions "$waiters" 1000)
  many=$(instructions "$waiters" 21000)
  counts+=($(((many - few) / 20000)))
  times+=("$(nanoseconds "$waiters")")
  printf '%10s %24s %18s\n' "$waiters" "${counts[-1]}" "${times[-1]}"
done

# within NAME BOUND VALUES…: the greatest is at most BOUND times the least.
within() {
  printf '%s\n' "${@:3}" | sort -n | awk -v name="$1" -v bound="$2" '
    NR == 1 { least = $1 } { greatest = $1 }
    END {
      printf "%s: greatest / least = %.2f, at most %s\n", name, greatest / least, bound
      exit greatest > bound * least
    }'
}
within instructions 1.5 "${counts[@]}"
within time 3 "${times[@]}"
