// Package image packs static binaries as container images without a
// container engine: one layer of named files, a config, fixed times. The same
// Spec gives the same bytes on every machine.
//
// It owns the image and its two archive formats (a docker archive of one
// platform, an OCI layout of several). Building binaries is package build's.
package image
