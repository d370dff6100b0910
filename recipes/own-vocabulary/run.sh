#!/usr/bin/env bash
# A teacher pre-trained on the user's own texts with a vocabulary of its own, as DiPair's P2T-REL has it (section 4.3: 12 layers,
# 80,000 word pieces, user-interaction data). Here: 2 layers and 8,000 word pieces on Home Depot's titles and queries.
# usage: recipes/own-vocabulary/run.sh DATA_FOLDER WORK_FOLDER [SEQUENCES] [TEACHER_PAIRS] [SHAPE] [VOCABULARY]
# Every step resumes; run it again after an interruption.
set -euo pipefail
data=$1 work=$2 sequences=${3:-300000} teacher=${4:-180000} shape=${5:-tiny} vocabulary=${6:-8000}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
sed "s#DATA#$(cd "$data" && pwd)#" "$here/../homedepot/source.yaml" > "$work/source.yaml"
[ -f "$work/tuples/manifest.json" ] || pairstill describe "$work/source.yaml" --out "$work/tuples"
[ -f "$work/base/config.json" ] || pairstill pretrain "$work/tuples" --out "$work/base" --shape "$shape" --vocabulary "$vocabulary" \
  --max-length 64 --texts-per-sequence 2 --sequences "$sequences"
[ -f "$work/teacher/config.json" ] || pairstill teach --tuples "$work/tuples" --base "$work/base" --out "$work/teacher" --max-length 64 \
  --pairs "$teacher" --learning-rate 3e-4
pairstill evaluate --tuples "$work/tuples" --split test --split valid --teacher "teacher=$work/teacher" \
  --out "$work/evaluation" --floor-length 64 --title "Own vocabulary, Home Depot"
