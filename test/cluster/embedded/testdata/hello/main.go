// Command hello says the name of the pod it runs in: "hello serve", to be asked
// with "hello get URL".
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "serve":
		name, err := os.Hostname()
		if err != nil {
			return err
		}
		return http.ListenAndServe(":8080", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprint(w, name)
		}))
	case len(args) == 2 && args[0] == "get":
		client := http.Client{Timeout: 2 * time.Second}
		reply, err := client.Get(args[1])
		if err != nil {
			return err
		}
		defer func() { _ = reply.Body.Close() }()
		_, err = io.Copy(os.Stdout, reply.Body)
		return err
	default:
		return fmt.Errorf("want serve or get URL, not %q", args)
	}
}
