#!/usr/bin/env bash
# BERT2DNN on SST-2, sentences of reviews as its transfer set: temperature, stacked teachers, size of the transfer set.
# usage: recipes/sentiment/run.sh DATA_FOLDER WORK_FOLDER [TEACHER_TEXTS] [TRANSFER_TEXTS] [PART] [STUDENT_ROWS]
# DATA_FOLDER is that of the sentiment sets; without STUDENT_ROWS students are presented what the two grids say.
# Every step resumes; run it again after an interruption.
set -euo pipefail
data=$1 work=$2 teacher=${3:-126000} transfer=${4:-400000} part=${5:-100000}
budget=(${6:+--distill "pairs=$6"})
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
[ -f "$work/files/tuples.parquet" ] || python "$here/prepare.py" "$data" "$work/files"
cp "$here/source.yaml" "$work/files/"
cd "$work"
[ -f set/manifest.json ] || pairstill describe files/source.yaml --out set
teach() { # NAME FLAGS...
  local name=$1; shift
  [ -f "$name/config.json" ] || pairstill teach --tuples set --out "$name" --max-length 64 --pairs "$teacher" --metric accuracy "$@"
}
teach teacher-a
teach teacher-b --layers 4 --seed 1
teach teacher-c --learning-rate 5e-5 --seed 2
for one in a b c; do
  pairstill annotate --tuples set --teacher "teacher-$one" --split train --split valid --out "train-$one"
  pairstill annotate --tuples set --teacher "teacher-$one" --split transfer --limit "$part" --out "part-$one"
done
pairstill annotate --tuples set --teacher teacher-a --split transfer --limit "$transfer" --out transfer-a
all=()
for one in a b c; do all+=(--scores "train-$one" --scores "part-$one"); done
pairstill scores combine --how stack --fit-split valid --tuples set "${all[@]}" --out stack
pairstill run "$here/temperature.yaml" --out temperature ${budget[@]+"${budget[@]}"}
pairstill run "$here/transfer-size.yaml" --out transfer-size ${budget[@]+"${budget[@]}"}
