#!/usr/bin/env bash
# Home Depot product search (graded relevance): the public stand-in for DiPair's P2T-REL, table 2a.
# usage: recipes/homedepot/run.sh DATA_FOLDER WORK_FOLDER [STAGE2_PAIRS] [STAGE1_PAIRS]
# Every step resumes; run it again after an interruption.
set -euo pipefail
data=$1 work=$2 pairs=${3:-300000} first=${4:-200000}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
sed "s#DATA#$(cd "$data" && pwd)#" "$here/source.yaml" > "$work/source.yaml"
[ -f "$work/tuples/manifest.json" ] || pairstill describe "$work/source.yaml" --out "$work/tuples"
[ -f "$work/teacher/config.json" ] || pairstill teach --tuples "$work/tuples" --out "$work/teacher" --max-length 64 --pairs 180000
[ -d "$work/teacher-base" ] || pairstill export --student "$work/teacher" --out "$work/teacher-base" # ladder.yaml's PreTTR begins with it
[ -f "$work/mined/manifest.json" ] || pairstill mine --tuples "$work/tuples" --out "$work/mined" --negatives-per-positive 0 \
  --transfer 34 --transfer-pairs 300000 --max-length 64
pairstill annotate --tuples "$work/mined" --teacher "$work/teacher" --split train --split transfer --out "$work/scores"
for student in dipair-tsf de-ffnn dipair-ffnn de-cos cross-encoder; do
  [ -f "$work/$student/config.json" ] && continue
  extra=(--new-learning-rate 3e-4)
  case "$student" in
    cross-encoder) extra+=(--set encoder.layers=3 --batch-size 64) ;;
    de-cos) extra+=(--stages one) ;;
    *) extra+=(--stage1-pairs "$first") ;;
  esac
  # Scored labelled pairs alone: at small budgets they teach more than mined ones, whose queries' other products are mostly irrelevant.
  pairstill distill --student "$student" --tuples "$work/mined" --scores "$work/scores" --split train --out "$work/$student" \
    --max-length 64 --pairs "$pairs" --learning-rate 2e-4 "${extra[@]}"
done
students=()
for student in dipair-tsf de-ffnn dipair-ffnn de-cos cross-encoder; do students+=(--student "$student=$work/$student"); done
pairstill evaluate --tuples "$work/mined" --split test --split valid --teacher "teacher=$work/teacher" "${students[@]}" --out "$work/evaluation" \
  --floor-length 64 --title "Home Depot, graded relevance"
