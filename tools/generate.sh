#!/usr/bin/env bash
# Writes what is generated from api/v1alpha1: deep copies and deploy/crds.
set -euo pipefail
cd "$(dirname "$0")/.."
go tool -modfile=tools/go.mod controller-gen \
  object crd:crdVersions=v1 paths=./api/... output:crd:dir=deploy/crds
