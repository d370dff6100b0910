#!/usr/bin/env bash
# Words against numbers: which handwritten digit is meant? Stage 1 alone, on labels.
# usage: recipes/digits/run.sh WORK_FOLDER
set -euo pipefail
work=$1
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
[ -f "$work/files/items.parquet" ] || python "$here/prepare.py" "$work/files"
cp "$here/source.yaml" "$work/files/"
cd "$work"
[ -f set/manifest.json ] || pairstill describe files/source.yaml --out set
for student in de-cos de-ffnn dipair-tsf; do
  keep=(); [ "$student" != dipair-tsf ] || keep=(--set keep=4,4)
  [ -f "$student/config.json" ] || pairstill distill --student "$student" --tuples set --out "$student" --hard-weight 1 --stages first \
    --stage1-pairs 40000 --max-length 16 --precision float32 "${keep[@]}"
done
pairstill evaluate --tuples set --student de-cos --student de-ffnn --student dipair-tsf --out evaluation --bert-base none
