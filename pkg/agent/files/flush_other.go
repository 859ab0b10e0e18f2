//go:build !unix

package files

import "os"

func flush(*os.File) error { return nil }
