package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/yaml"
)

// output is the -o flag of commands that print.
type output struct {
	format  string
	formats []string
}

// addFlag adds -o with json and yaml and the other formats named.
func (o *output) addFlag(cmd *cobra.Command, more ...string) {
	o.formats = append([]string{"json", "yaml"}, more...)
	cmd.Flags().StringVarP(&o.format, "output", "o", "", fmt.Sprintf("output format, one of %v", o.formats))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(o.formats, cobra.ShellCompDirectiveNoFileComp))
}

func (o *output) validate() error {
	if o.format != "" && !slices.Contains(o.formats, o.format) {
		return usageError(fmt.Errorf("-o %s is not known", o.format), fmt.Sprintf("one of %v", o.formats))
	}
	return nil
}

// print writes v as asked for; human writes it where no format, or one of the
// command's own, was given.
func (o *output) print(w io.Writer, v any, human func(io.Writer)) error {
	switch o.format {
	case "json":
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(v)
	case "yaml":
		data, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	}
	human(w)
	return nil
}

// table writes rows under a header, in kubectl's layout.
func table(w io.Writer, header string, rows func(row func(format string, args ...any))) {
	tw := printers.GetNewTabWriter(w)
	_, _ = fmt.Fprintln(tw, header)
	rows(func(format string, args ...any) { _, _ = fmt.Fprintf(tw, format+"\n", args...) })
	_ = tw.Flush()
}
