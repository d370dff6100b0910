#!/usr/bin/env bash
# Search over more than a million sentences of reviews: a small TwinBERT of tri-letters learns which sentence follows which, encodes all of
# them, and is served.
# usage: recipes/review-search/run.sh DATA_FOLDER WORK_FOLDER [PAIRS]      (DATA_FOLDER: that of the sentiment sets)
# Every step resumes; run it again after an interruption.
set -euo pipefail
data=$1 work=$2 pairs=${3:-400000}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
[ -f "$work/files/pairs.parquet" ] || python "$here/prepare.py" "$data" "$work/files"
cp "$here/source.yaml" "$work/files/"
cd "$work"
[ -f set/manifest.json ] || pairstill describe files/source.yaml --out set
pairstill distill --student twinbert-cos --tuples set --split train --stages one --loss in-batch-cross-entropy --out twinbert --max-length 32 \
  --set encoder.tokens=tri-letter --set encoder.shape=tiny --pairs "$pairs" --batch-size 256 --metric MRR@10
pairstill encode --student twinbert --texts files/sentences.parquet --id id --text text --position 2 --field item --dtype bfloat16 --out sentences
pairstill index --store sentences --student twinbert --tuples set --split test --out index
pairstill search --student twinbert --store sentences --index index --tuples set --split test --top 10 --out found
pairstill export --student twinbert --format onnx --tuples set --out served
echo "pairstill serve --student $work/served --store 2=$work/sentences --index $work/index --texts $work/files/sentences.parquet"
