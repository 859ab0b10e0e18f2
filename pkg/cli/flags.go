package cli

import (
	"fmt"
	"iter"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// visited yields the flags that the user set. A command's inherited flags are
// in a set that was put together later, where Visit finds nothing.
func visited(flags *pflag.FlagSet) iter.Seq[*pflag.Flag] {
	return func(yield func(*pflag.Flag) bool) {
		more := true
		flags.VisitAll(func(f *pflag.Flag) {
			if more && f.Changed {
				more = yield(f)
			}
		})
	}
}

// flagValue is a flag's value as it would be typed; slices print themselves in
// brackets otherwise.
func flagValue(f *pflag.Flag) string {
	if s, ok := f.Value.(pflag.SliceValue); ok {
		return strings.Join(s.GetSlice(), ",")
	}
	return f.Value.String()
}

// noArgs refuses arguments: as unknown commands where there are commands to
// choose from.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasAvailableSubCommands() {
		return usageError(fmt.Errorf("%s takes no argument, such as %q", cmd.CommandPath(), args[0]), cmd.CommandPath()+" --help")
	}
	var hints []string
	for _, name := range cmd.SuggestionsFor(args[0]) {
		hints = append(hints, cmd.CommandPath()+" "+name)
	}
	return usageError(fmt.Errorf("there is no command %q", args[0]), append(hints, cmd.CommandPath()+" --help")...)
}
