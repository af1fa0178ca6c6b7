#!/bin/sh
# Label maps of every scan in inputs/, in outputs/: CASE_0000.nii.gz or CASE.nii.gz becomes CASE.nii.gz. Each scan gets a
# process of its own, as challenges time them. Needs no network.
#
#     sh predict.sh                                the folders inputs and outputs here
#     sh predict.sh INPUTS OUTPUTS [WORDS ...]     other folders, and words of flarenet_predict, as in -m NAME
#
# The model is the newest below FLARENET_ROOT, or here. Exit codes: 0 all done, 2 no inputs, 3 some failed, 4 all failed;
# 75 or 130 where a prediction was ended by SIGTERM or Ctrl-C, which ends all.
set -u
inputs=${1:-inputs}
outputs=${2:-outputs}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] && shift
done=0
failed=0
for scan in "$inputs"/*.nii.gz; do
    [ -f "$scan" ] || continue
    case=$(basename "$scan" .nii.gz)
    if "${PYTHON:-python3}" -m flarenet.cli.predict -i "$scan" -o "$outputs/${case%_0000}.nii.gz" "$@"; then
        done=$((done + 1))
    else
        code=$?
        case $code in
            75 | 130) exit "$code" ;;
        esac
        failed=$((failed + 1))
    fi
done
if [ $((done + failed)) -eq 0 ]; then
    echo "predict.sh: no .nii.gz file in $inputs" >&2
    exit 2
fi
[ "$failed" -eq 0 ] && exit 0
echo "predict.sh: $failed of $((done + failed)) scans failed" >&2
[ "$done" -eq 0 ] && exit 4
exit 3
