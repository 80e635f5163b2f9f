// Package configs holds the annotated configuration, from which the demonstration and
// new installations are made.
package configs

import _ "embed"

// Example is configs/cmmpd.toml: every key with its meaning and its default.
//
//go:embed cmmpd.toml
var Example string
