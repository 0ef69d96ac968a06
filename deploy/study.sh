#!/usr/bin/env bash
# Starts a study, or continues it if it has begun: after a pre-emption, a lost head or a time limit,
# repeat the same command.
#
#   deploy/study.sh --space fusion_grid --address auto --storage /shared/trials
#
# The current folder is the workspace. PYTHON is the interpreter (default .venv/bin/python).
set -euo pipefail

name="" rehearses=""
given=("$@")
for ((i = 0; i < $#; i++)); do
    case "${given[i]}" in
        --name) name="${given[i + 1]-}" ;;
        --name=*) name="${given[i]#*=}" ;;
        --space) space="${given[i + 1]-}" ;;
        --space=*) space="${given[i]#*=}" ;;
        --quick) rehearses="-quick" ;;
        --resume) exec "${PYTHON:-.venv/bin/python}" -m study.run "$@" ;;
    esac
done
if [ -z "$name" ]; then
    # A study's default name is that of its space; a rehearsal's ends with -quick.
    name="$(basename "${space:?--space NAME or --name NAME is needed}" .toml)$rehearses"
fi
if [ -f "studies/$name/plan.json" ]; then
    set -- "$@" --resume
fi
exec "${PYTHON:-.venv/bin/python}" -m study.run "$@"
