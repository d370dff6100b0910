#!/usr/bin/env bash
# Margin-MSE's three passes (Hofstätter et al. 2020): teachers by RankNet on triples, their scores stored once, students on the margins.
# Triples are WikiQA's: the MS MARCO triples, BERT-Large and ALBERT-Large cannot be had offline. T1 is one teacher; T2 is the mean of
# three that differ in depth, loss and seed and not, as the paper's, in their base.
# usage: recipes/margin-mse/run.sh DATA_FOLDER WORK_FOLDER [TEACHER_PAIRS] [STUDENT_PAIRS]     (DATA_FOLDER: that of WikiQA)
# Every step resumes; run it again after an interruption.
set -euo pipefail
data=$1 work=$2 teacher=${3:-24000} pairs=${4:-60000}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$work"
work=$(cd "$work" && pwd)
[ -f "$work/files/run.test.txt" ] || python "$here/prepare.py" "$data" "$work/files"
cp "$here/triples.yaml" "$here/test.yaml" "$work/files/"
[ -f "$work/triples/manifest.json" ] || pairstill describe "$work/files/triples.yaml" --out "$work/triples"
[ -f "$work/test/manifest.json" ] || pairstill describe "$work/files/test.yaml" --out "$work/test"

# Pass 1: teachers.
teach() { # NAME FLAGS...
  local name=$1; shift
  [ -f "$work/$name/config.json" ] || pairstill teach --tuples "$work/triples" --out "$work/$name" --max-length 96 --pairs "$teacher" "$@"
}
teach teacher-a --loss ranknet
teach teacher-b --loss ranknet --layers 4 --seed 1
teach teacher-c --loss cross-entropy --seed 2

# Pass 2: scores, once.
for one in a b c; do
  for set in triples test; do
    pairstill annotate --tuples "$work/$set" --teacher "$work/teacher-$one" --out "$work/$set-$one"
  done
done
for set in triples test; do
  pairstill scores combine --tuples "$work/$set" --scores "$work/$set-a" --scores "$work/$set-b" --scores "$work/$set-c" --out "$work/$set-t2"
done
# The published form of both.
pairstill scores export --tuples "$work/triples" --split train --scores "$work/triples-a" --to "$work/t1_train_scores_ids.tsv"
pairstill scores export --tuples "$work/triples" --split train --scores "$work/triples-t2" --to "$work/t2_train_scores_ids.tsv"

# Pass 3: students; without a teacher they learn the triples by RankNet.
cd "$work"
pairstill run "$here/teachers.yaml" --out students --distill "pairs=$pairs"
