#!/usr/bin/env bash
# Home Depot product search (graded relevance): the public stand-in for DiPair's P2T-REL, table 2a. A teacher, its scores, and every
# student of the ladder from them.
# usage: recipes/homedepot/run.sh DATA_FOLDER WORK_FOLDER [TEACHER_PAIRS] [LADDER]
# Every step resumes; run it again after an interruption.
set -euo pipefail
data=$(cd "$1" && pwd) work=$2 teacher=${3:-180000}
here=$(cd "$(dirname "$0")" && pwd)
ladder=$(realpath "${4:-$here/ladder.yaml}")
mkdir -p "$work"
sed "s#DATA#$data#" "$here/source.yaml" > "$work/source.yaml"
cd "$work"
[ -f tuples/manifest.json ] || pairstill describe source.yaml --out tuples
[ -f teacher/config.json ] || pairstill teach --tuples tuples --out teacher --max-length 64 --pairs "$teacher"
[ -d teacher-base ] || pairstill export --student teacher --out teacher-base # the ladder's cross-encoder and PreTTR begin with it
[ -f mined/manifest.json ] || pairstill mine --tuples tuples --out mined --negatives-per-positive 0 \
  --transfer 34 --transfer-pairs 300000 --max-length 64
pairstill annotate --tuples mined --teacher teacher --split train --split transfer --out scores
pairstill run "$ladder" --out ladder
