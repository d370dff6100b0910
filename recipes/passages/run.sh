#!/usr/bin/env bash
# Passages: one teacher fitted on WikiQA, MedQuAD and DL21, its scores of a transfer set, every student, DL19 and DL20 with the published metrics.
# usage: recipes/passages/run.sh DATA_FOLDER WORK_FOLDER [TEACHER_PAIRS]       (DATA_FOLDER holds wikiqa, medquad and msmarco_trecdl)
# Every step resumes; run it again after an interruption.
set -euo pipefail
data=$(cd "$1" && pwd) work=$2 teacher=${3:-100000}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
work=$(cd "$work" && pwd)
sed "s#DATA#$data/medquad#" "$here/../medquad/source.yaml" > "$work/medquad.yaml"
[ -f "$work/medquad/manifest.json" ] || pairstill describe "$work/medquad.yaml" --out "$work/medquad"
[ -f "$work/mined/manifest.json" ] || pairstill mine --tuples "$work/medquad" --out "$work/mined" --by bm25 --neighbours 30
[ -f "$work/files/qrels.dl20.txt" ] || python "$here/prepare.py" "$data" "$work/mined" "$work/files"
cp "$here/source.yaml" "$work/files/"
[ -f "$work/set/manifest.json" ] || pairstill describe "$work/files/source.yaml" --out "$work/set"
[ -f "$work/teacher/config.json" ] || pairstill teach --tuples "$work/set" --out "$work/teacher" --max-length 128 --pairs "$teacher" --validation-rows 3000
pairstill annotate --tuples "$work/set" --teacher "$work/teacher" --split train --split transfer --out "$work/scores"
cd "$work"
pairstill run "$here/ladder.yaml" --out ladder
for track in dl19 dl20; do
  runs=()
  for one in ladder/evaluation/runs/test-*.trec; do runs+=(--run "$(basename "$one" .trec)=$one"); done
  pairstill evaluate "${runs[@]}" --qrels "files/qrels.$track.txt" --relevant-from 2 --out "published-$track"
done
