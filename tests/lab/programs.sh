# Finding the programs of a lab: TEST_ASSET_<NAME>, then KUBEBUILDER_ASSETS, then our own build. Sourced by up.sh.
#
# The first two are the convention of Kubernetes' own envtest, so a prebuilt set works here as well.

# Links each program into $D/bin; builds only when one is found nowhere.
link_programs() {
  local name place built=
  for name in $PROGRAMS; do
    if place=$(given "$name"); then
      :
    else
      [ -n "$built" ] || built=$("$here/build") || exit
      place=$built/$name
    fi
    ln -s "$place" "$D/bin/$name"
  done
}

# given PROGRAM: where the environment says it is.
given() {
  local variable=TEST_ASSET_$(printf %s "$1" | tr 'a-z-' 'A-Z_')
  if [ -n "${!variable:-}" ]; then echo "${!variable}"
  elif [ -x "${KUBEBUILDER_ASSETS:-/nowhere}/$1" ]; then echo "$KUBEBUILDER_ASSETS/$1"
  else return 1; fi
}
