package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/kubectl-tele/kubectl-tele/pkg/version"
)

type versionOptions struct {
	flagsOnly
	f      *factory
	output output
}

func newVersionCommand(f *factory) *cobra.Command {
	o := &versionOptions{f: f}
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
		RunE: runE(o),
	}
	o.output.addFlag(cmd)
	return cmd
}

func (o *versionOptions) validate() error { return o.output.validate() }

func (o *versionOptions) run(context.Context) error {
	info := struct {
		version.Info `json:",inline"`
		AgentImage   string `json:"agentImage"`
	}{version.Get(), version.AgentImage()}
	return o.output.print(o.f.Out, info, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "kubectl tele %s\nagent image %s\n", info.Info, info.AgentImage)
	})
}
