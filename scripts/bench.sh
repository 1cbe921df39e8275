#!/usr/bin/env bash
# The core's benches: time by criterion, then instructions and time per step. Neither may grow with waiters or keys.
#
# Instructions are counted by callgrind over two runs of one program that differ in their rounds alone; the difference
# is the cost of the rounds. That needs a distribution's package and nothing built, and cannot be misled by inlining.
# Arguments go to criterion.
set -euo pipefail
cd "$(dirname "$0")/.."

instructions_ratio_max=1.5
time_ratio_max=3
# As many as the longest line: every ticket of it is taken anew and granted once.
rounds=100000

cargo bench --locked -p ticketlock-core --bench rules -- "$@"
program=$(cargo bench --locked -p ticketlock-core --bench rules --no-run 2>&1 |
  sed -n 's/.*(\(.*rules-[0-9a-f]*\)).*/\1/p')

# A count that is not there must not pass for zero.
number() {
  if ! [[ $1 =~ ^[1-9][0-9]*$ ]]; then
    echo "bench: not a number: '$1' ($2)" >&2
    exit 1
  fi
  echo "$1"
}

# collected STEP CLIENT SIZE ROUNDS: the whole program's instructions.
collected() {
  local found
  found=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" "$@" 2>&1 |
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p')
  number "$found" "instructions of $*"
}

# nanoseconds STEP CLIENT SIZE: per step, the least of five runs, for the machine may be busy.
nanoseconds() {
  local found
  found=$(for _ in 1 2 3 4 5; do "$program" "$@" 200000; done | sort -n | sed -n 1p)
  number "$found" "time of $*"
}

failed=
# within BOUND UNIT VALUES…: prints how far apart they are, and remembers where that is too far.
within() {
  printf '%s\n' "${@:3}" | sort -n | awk -v bound="$1" -v unit="$2" '
    NR == 1 { least = $1 }
    { greatest = $1 }
    END {
      apart = greatest > bound * least
      printf "  %s: greatest / least = %.2f, at most %s", unit, greatest / least, bound
      print apart ? ": TOO FAR APART" : ""
      exit apart
    }' || failed=yes
}

# bounded STEP CLIENT WHAT SIZES…: one step at several sizes.
bounded() {
  local step=$1 client=$2 what=$3 size before after counts=() times=()
  printf '\n%s, %s\n%12s %18s %12s\n' "$step" "$client" "$what" 'instructions each' 'ns each'
  for size in "${@:4}"; do
    before=$(collected "$step" "$client" "$size" 0)
    after=$(collected "$step" "$client" "$size" "$rounds")
    counts+=("$(number $(((after - before) / rounds)) "instructions per step")")
    times+=("$(nanoseconds "$step" "$client" "$size")")
    printf '%12s %18s %12s\n' "$size" "${counts[-1]}" "${times[-1]}"
  done
  within "$instructions_ratio_max" instructions "${counts[@]}"
  within "$time_ratio_max" time "${times[@]}"
}

for client in plain session; do
  bounded pairs "$client" 'other keys' 1 100000
  bounded hand-offs "$client" waiters 1 1000 100000
done
if [ -n "$failed" ]; then
  echo "bench: a cost grows" >&2
  exit 1
fi
