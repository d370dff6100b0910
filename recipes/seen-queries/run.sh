#!/usr/bin/env bash
# BERT2DNN's new-queries split: what a student makes of queries that training had, with other products, and of new ones. Home Depot's
# training rows split again, with the scores that recipes/homedepot/run.sh left, so that no teacher runs twice.
# usage: recipes/seen-queries/run.sh DATA_FOLDER HOMEDEPOT_WORK_FOLDER [WORK_FOLDER]
# Every step resumes; run it again after an interruption.
set -euo pipefail
data=$1 scored=$2 work=${3:-$2/seen-queries}
here=$(cd "$(dirname "$0")" && pwd)
[ -f "$work/labels.parquet" ] || python "$here/prepare.py" "$data" "$scored/scores" "$work"
sed -e "s#^tuples: .*#tuples: labels.parquet#" -e "s#DATA#$(cd "$data" && pwd)#" "$here/../homedepot/source.yaml" > "$work/source.yaml"
cd "$work"
[ -f tuples/manifest.json ] || pairstill describe source.yaml --out tuples --allow-overlap
# Scores of the old test and transfer rows are of no row here.
[ -f scores/manifest.json ] || pairstill annotate --tuples tuples --import scores.parquet --kind logit --score-column logit_0 --skip-unknown --out scores
distill() { # NAME ARCHITECTURE FLAGS...
  local name=$1 architecture=$2; shift 2
  [ -f "$name/config.json" ] || pairstill distill --student "$architecture" --tuples tuples --scores scores --split train --out "$name" \
    --validation-rows 2000 "$@"
}
distill bert2dnn bert2dnn --pairs 600000 --batch-size 256 --temperature 2 --set encoder.split_punctuation=true
distill bert2dnn-skip bert2dnn --pairs 600000 --batch-size 256 --temperature 2 --set encoder.split_punctuation=true \
  --set similarity_skip=true --set encoder.dim=256
distill tk tk --stages one --learning-rate 1e-3 --pairs 60000 --max-length 64 --looks 3
pairstill evaluate --tuples tuples --teacher-scores scores --student bert2dnn --student bert2dnn-skip --student tk --by seen --no-cost \
  --out evaluation
