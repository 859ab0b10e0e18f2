package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "warden:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("no command, want init, spawn, resolver or relay")
	}
	switch args[0] {
	case "init":
		return reap()
	case "spawn":
		return spawn(args[1:])
	case "resolver":
		return resolve(args[1:])
	case "relay":
		return relay(args[1:])
	default:
		return fmt.Errorf("no command %q, want init, spawn, resolver or relay", args[0])
	}
}
