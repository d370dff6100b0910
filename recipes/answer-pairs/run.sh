#!/usr/bin/env bash
# Pairs of MedQuAD's answers by shared focus, a derived label: the public stand-in for DiPair's P2P-REL, table 7.
# usage: recipes/answer-pairs/run.sh DATA_FOLDER WORK_FOLDER [TEACHER_PAIRS]       (DATA_FOLDER: that of MedQuAD)
# Every step resumes; run it again after an interruption.
set -euo pipefail
data=$1 work=$2 teacher=${3:-30000}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
[ -f "$work/files/pairs.parquet" ] || python "$here/prepare.py" "$data" "$work/files"
cp "$here/source.yaml" "$work/files/"
cd "$work"
[ -f tuples/manifest.json ] || pairstill describe files/source.yaml --out tuples
[ -f mined/manifest.json ] || pairstill mine --tuples tuples --out mined --by bm25 --neighbours 30
[ -f teacher/config.json ] || pairstill teach --tuples mined --out teacher --max-length 160 --pairs "$teacher" --batch-size 32 --looks 5 --validation-rows 2000
pairstill annotate --tuples mined --teacher teacher --split train --limit 60000 --out scores
pairstill run "$here/poly-encoder.yaml" --out poly-encoder
