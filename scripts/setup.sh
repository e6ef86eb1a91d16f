#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Provides what a Debian 12 host needs to build, test and demonstrate kmortem.
# Sourced by ./demo and ./test:
#
#     . scripts/setup.sh
#     need_packages $LAB_PACKAGES     # Debian packages, installed when missing
#     need_rust                       # puts a cargo of at least $MSRV on the PATH
#
# Both do nothing, in milliseconds, when nothing is missing. As root they
# install with apt-get; as another user they say what is missing and fail.

# The oldest Rust the workspace builds with: rust-version in Cargo.toml.
MSRV=1.90

# To link Rust programs, and the C parts of dependencies.
BUILD_PACKAGES="gcc libc6-dev"

# To boot kernels (qemu, busybox, e2fsprogs), build their modules (gcc-12,
# make, binutils, libc6-dev for a static program), unpack them (xz-utils) and
# convert their dumps (makedumpfile). setpriv and fallocate are in util-linux.
# The second line is for dumps that are compressed and those of libvirt (its
# driver with its helpers, and virsh: no daemon runs), the last for arm64 guests.
LAB_PACKAGES="qemu-system-x86 busybox-static e2fsprogs gcc-12 libc6-dev make binutils xz-utils makedumpfile util-linux \
	bzip2 lz4 lzop zstd libvirt-clients libvirt-daemon libvirt-daemon-driver-qemu \
	qemu-system-arm ipxe-qemu gcc-12-aarch64-linux-gnu libc6-dev-arm64-cross"

# For `lab peers`, and the tests that drgn is the judge of: it comes from PyPI.
PEERS_PACKAGES="python3 python3-venv"

# Debian 12's own rustc is too old; its rustc-web is kept current for browsers.
RUST_PACKAGES="rustc-web cargo-web ca-certificates"
RUST_CHECK_PACKAGES="rustfmt-web rust-web-clippy"

# Packages of "$@" that are not installed, one a line.
missing_packages() {
	# dpkg-query fails when it does not know one of them.
	installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$@" 2>/dev/null || true)
	for package in "$@"; do
		case "
$installed
" in *"
installed $package
"*) ;; *) echo "$package" ;; esac
	done
}

# need_packages NAME...: installs what is missing of these Debian packages.
need_packages() {
	missing=$(missing_packages "$@" | tr '\n' ' ')
	[ -n "$missing" ] || return 0
	if ! command -v apt-get >/dev/null 2>&1; then
		echo "setup: this host has no apt-get; please provide: $missing" >&2
		return 1
	fi
	if [ "$(id -u)" -ne 0 ]; then
		echo "setup: missing packages; as root: apt-get install --no-install-recommends $missing" >&2
		return 1
	fi
	echo "setup: installing $missing" >&2
	# shellcheck disable=SC2086 # a list of names
	install_packages $missing || {
		apt-get update -q >&2 && install_packages $missing
	} || {
		echo "setup: apt-get could not install: $missing" >&2
		return 1
	}
}

install_packages() {
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@" >&2
}

# Whether version $1 is at least version $2, both MAJOR.MINOR...
at_least() {
	major=${1%%.*} rest=${1#*.}
	minor=${rest%%.*}
	[ "$major" -gt "${2%%.*}" ] || { [ "$major" -eq "${2%%.*}" ] && [ "$minor" -ge "${2#*.}" ]; }
}

# Whether the cargo and rustc on the PATH are new enough.
have_rust() {
	command -v cargo >/dev/null 2>&1 || return 1
	version=$(rustc --version 2>/dev/null) || return 1
	version=${version#rustc }
	at_least "${version%% *}" "$MSRV"
}

# need_rust [check]: provides cargo; with "check" also rustfmt and clippy.
need_rust() {
	if ! have_rust && [ -x "$HOME/.cargo/bin/cargo" ]; then
		PATH="$HOME/.cargo/bin:$PATH"
	fi
	if ! have_rust; then
		# An index of some weeks ago knows an older rustc-web only.
		[ "$(id -u)" -ne 0 ] || apt-get update -q >&2 || true
		# shellcheck disable=SC2086 # a list of names
		need_packages $RUST_PACKAGES || return 1
		# Installed already, but too old.
		# shellcheck disable=SC2086
		have_rust || [ "$(id -u)" -ne 0 ] || install_packages $RUST_PACKAGES || true
		# Installed beside an older one, it is found under /usr/bin.
		PATH="/usr/bin:$PATH"
	fi
	export PATH
	have_rust || {
		echo "setup: no Rust of at least $MSRV; install one, e.g. with https://rustup.rs" >&2
		return 1
	}
	[ "${1:-}" = check ] || return 0
	if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
		# shellcheck disable=SC2086 # a list of names
		need_packages $RUST_CHECK_PACKAGES
	fi
}
