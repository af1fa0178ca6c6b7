#!/bin/sh
# Writes label maps of every scan in inputs/ to outputs/: CASE_0000.nii.gz or CASE.nii.gz becomes CASE.nii.gz. Each scan
# gets a separate process, as challenges time them. Needs no network.
#
#     sh predict.sh                                the folders inputs and outputs here
#     sh predict.sh INPUTS OUTPUTS [WORDS ...]     other folders, and words of flarenet_predict, as in -m NAME
#
# The model is the newest below FLARENET_ROOT, or here. Exit codes: 0 all done, 2 no inputs or two scans of one case, 3 some
# failed, 4 all failed; 75 where SIGTERM ended it and 130 after Ctrl-C.
set -u
inputs=${1:-inputs}
outputs=${2:-outputs}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] && shift
done=0
failed=0
child=
ended=

# as the first process of a container this shell gets the signals, and heeds those alone that it has a trap for
end() {
    ended=$1
    [ -n "$child" ] && kill -TERM "$child" 2>/dev/null
}
trap 'end 75' TERM
trap 'end 130' INT

for scan in "$inputs"/*_0000.nii.gz; do
    if [ -f "$scan" ] && [ -f "${scan%_0000.nii.gz}.nii.gz" ]; then
        echo "predict.sh: $scan and ${scan%_0000.nii.gz}.nii.gz would have one output" >&2
        exit 2
    fi
done
for scan in "$inputs"/*.nii.gz; do
    [ -z "$ended" ] || exit "$ended"
    [ -f "$scan" ] || continue
    case=$(basename "$scan" .nii.gz)
    "${PYTHON:-python3}" -m flarenet.cli.predict -i "$scan" -o "$outputs/${case%_0000}.nii.gz" "$@" &
    child=$!
    [ -z "$ended" ] || kill -TERM "$child" # the signal came before the process had a number
    wait "$child"
    code=$?
    if [ -n "$ended" ]; then
        wait "$child"
        exit "$ended"
    fi
    child=
    case $code in
        0) done=$((done + 1)) ;;
        75 | 130) exit "$code" ;;
        *) failed=$((failed + 1)) ;;
    esac
done
if [ $((done + failed)) -eq 0 ]; then
    echo "predict.sh: no .nii.gz file in $inputs" >&2
    exit 2
fi
[ "$failed" -eq 0 ] && exit 0
echo "predict.sh: $failed of $((done + failed)) scans failed" >&2
[ "$done" -eq 0 ] && exit 4
exit 3
