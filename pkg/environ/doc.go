// Package environ handles the environment of a process as data: it reads the form in
// which Linux shows it, selects what of a container's environment may be set on a
// laptop, and writes it in the syntax of shells and tools. What a container's
// environment is, package workload knows.
package environ
