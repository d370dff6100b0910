#!/usr/bin/env bash
# MedQuAD consumer-health questions and long answers: the public stand-in for DiPair's Q2P-MAT (table 2b, figure 3a).
# Hard negatives and a transfer set are mined as in DiPair's appendix B; answers are cut at 128 tokens.
# usage: recipes/medquad/run.sh DATA_FOLDER WORK_FOLDER [TEACHER_PAIRS] [STAGE2_PAIRS] [STAGE1_PAIRS] [TRANSFER_PAIRS]
# Every step resumes; run it again after an interruption.
set -euo pipefail
data=$1 work=$2 teacher=${3:-24000} pairs=${4:-8000} first=${5:-100000} transfer=${6:-40000}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
sed "s#DATA#$(cd "$data" && pwd)#" "$here/source.yaml" > "$work/source.yaml"
[ -f "$work/tuples/manifest.json" ] || pairstill describe "$work/source.yaml" --out "$work/tuples"
# The paper's ceiling of .53 belongs to its encoder; with this base it leaves one query in eight without a negative.
[ -f "$work/mined/manifest.json" ] || pairstill mine --tuples "$work/tuples" --out "$work/mined" --work "$work/vectors" --ceiling 0.75 \
  --transfer 50 --transfer-pairs "$transfer"
[ -f "$work/teacher/config.json" ] || pairstill teach --tuples "$work/mined" --out "$work/teacher" --pairs "$teacher" --batch-size 32 --looks 5 --validation-rows 1500
[ -d "$work/teacher-base" ] || pairstill export --student "$work/teacher" --out "$work/teacher-base" # cross-encoders of the grids begin with it
pairstill annotate --tuples "$work/mined" --teacher "$work/teacher" --split train --split transfer --out "$work/scores"
distill() { # NAME ARCHITECTURE FLAGS...
  local name=$1 architecture=$2; shift 2
  [ -f "$work/$name/config.json" ] || pairstill distill --student "$architecture" --tuples "$work/mined" --scores "$work/scores" \
    --out "$work/$name" --pairs "$pairs" --batch-size 64 --cluster-rows 32 \
    --looks 5 --validation-rows 1500 "$@"
}
for student in dipair-tsf dipair-ffnn de-ffnn; do
  distill "$student" "$student" --stage1-pairs "$first"
  distill "$student-one-stage" "$student" --stages one
done
distill de-cos de-cos --stages one
# Without the similarity skip, as published: what two stages are worth when a student does not start from the base's cosine.
distill dipair-tsf-no-skip dipair-tsf --set similarity_skip=false --stage1-pairs "$first"
distill dipair-tsf-no-skip-one-stage dipair-tsf --set similarity_skip=false --stages one
# Three layers do not learn this task from as few pairs as the others; see docs/log.md.
distill cross-encoder cross-encoder --set encoder.layers=4 --pairs $((2 * pairs)) --batch-size 32
students=()
for student in dipair-tsf dipair-tsf-one-stage dipair-ffnn dipair-ffnn-one-stage de-ffnn de-ffnn-one-stage de-cos cross-encoder \
  dipair-tsf-no-skip dipair-tsf-no-skip-one-stage; do
  students+=(--student "$student=$work/$student")
done
pairstill evaluate --tuples "$work/mined" --teacher "teacher=$work/teacher" "${students[@]}" --out "$work/evaluation" \
  --title "MedQuAD, answers cut at 128 tokens"
