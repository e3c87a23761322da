# Sourced after common.sh: checks TPU and NAME. Sets GENERATION, RUNTIME (the image of that generation), DISTRIBUTED
# (what REALM_JAX_DISTRIBUTED must be: empty on one host, auto on several) and ALONE (the environment in which one host
# of several is a slice by itself, as JAX's own tests set it; each of them has four chips).
# shellcheck shell=bash disable=SC2034
case "${TPU:-}" in
  tpu7x-* | v7x-*) fail "TPU=$TPU: TPU7x is reached through GKE alone: see launch/xpk.md" ;;
esac
[[ "${TPU:-}" =~ ^(v2|v3|v4|v5p|v5litepod|v6e)-([1-9][0-9]*)$ ]] ||
  fail "TPU=${TPU:-} is no Cloud TPU type: use TPU=v3-8 or another of $EXAMPLES"
GENERATION=${BASH_REMATCH[1]} SIZE=${BASH_REMATCH[2]}
case "$TPU" in
  v5litepod-[14] | v6e-[14]) ;;
  *) [ $((SIZE % 8)) = 0 ] || fail "TPU=$TPU: no slice has that size: use TPU=$GENERATION-8 or another of $EXAMPLES" ;;
esac
case "$GENERATION" in
  v5litepod) RUNTIME=v2-alpha-tpuv5-lite ;;
  v5p) RUNTIME=v2-alpha-tpuv5 ;;
  v6e) RUNTIME=v2-alpha-tpuv6e ;;
  *) RUNTIME=tpu-ubuntu2204-base ;;
esac
DISTRIBUTED=
[ "$SIZE" -le 8 ] || DISTRIBUTED=auto # eight cores or chips sit on one host
ALONE=(CLOUD_TPU_TASK_ID=0 "TPU_PROCESS_BOUNDS=1,1,1" "TPU_CHIPS_PER_PROCESS_BOUNDS=2,2,1" "TPU_VISIBLE_CHIPS=0,1,2,3")
check_name
