// Package interop lets the mail programs that people use do a day's work against a demonstration,
// and writes down what came of it (docs/interop.md, by make interop). Its tests have the build tag e2e.
package interop
