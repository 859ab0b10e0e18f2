package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kubectl-tele/kubectl-tele/pkg/version"
)

func newVersionCommand(f *factory) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:     "version",
		GroupID: groupOther,
		Short:   "Print the version of this program and of its agent's image",
		Long:    "Print version, commit and Go version of this program, and the image of the agent that belongs to it.",
		Example: `  # Which version is this
  kubectl tele version

  # For a script
  kubectl tele version -o json`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			info := struct {
				version.Info `json:",inline"`
				AgentImage   string `json:"agentImage"`
			}{version.Get(), version.AgentImage()}
			return o.print(f.Out, info, func(w io.Writer) {
				_, _ = fmt.Fprintf(w, "kubectl tele %s\nagent image %s\n", info.Info, info.AgentImage)
			})
		},
	}
	o.addFlag(cmd)
	return cmd
}
