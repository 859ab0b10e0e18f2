package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubectl-tele/kubectl-tele/test/cluster/embedded"
)

// options of the cluster all commands speak of, with its talk on stderr.
func options() embedded.Options {
	return embedded.Options{Log: func(line string) { fmt.Fprintln(os.Stderr, line) }}
}

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "cluster",
		Short: "Run the embedded Kubernetes cluster",
		Long: "Run a real Kubernetes cluster of two nodes on this machine, without docker and without a registry.\n" +
			"It needs root on Linux. $TELE_CLUSTER_NAME and $TELE_CLUSTER_DIR choose another cluster than the shared one.",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(upCommand(), downCommand(), statusCommand(), kubeconfigCommand(), loadCommand(), laptopCommand(), kubectlCommand())
	return root
}

func upCommand() *cobra.Command {
	return &cobra.Command{
		Use: "up", Args: cobra.NoArgs,
		Short: "Boot the cluster, or mend the one there is",
		RunE: func(cmd *cobra.Command, _ []string) error {
			begin := time.Now()
			c, err := embedded.Up(cmd.Context(), options())
			if err != nil {
				return err
			}
			fmt.Fprintf(os.Stderr, "the cluster is up (%.1f s); its folder is %s\n", time.Since(begin).Seconds(), c.Dir())
			return nil
		},
	}
}

func downCommand() *cobra.Command {
	return &cobra.Command{
		Use: "down", Args: cobra.NoArgs,
		Short: "Remove the cluster and all it left, even after a crash",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := embedded.Down(cmd.Context(), options()); err != nil {
				return err
			}
			fmt.Fprintln(os.Stderr, "the cluster is gone")
			return nil
		},
	}
}

func statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Args: cobra.NoArgs,
		Short: "Tell how the cluster is; exits with 1 when it is not well",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := embedded.Open(cmd.Context(), options())
			if err != nil {
				return err
			}
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			if err := printStatus(cmd, s); err != nil {
				return err
			}
			if !s.Healthy {
				return errors.New(s.Problem)
			}
			return nil
		},
	}
}

func printStatus(cmd *cobra.Command, s embedded.Status) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	defer func() { _ = w.Flush() }()
	state := "healthy"
	if !s.Healthy {
		state = "NOT WELL"
	}
	_, _ = fmt.Fprintf(w, "%s\tKubernetes %s, up since %s (boot took %.1f s)\n", state, s.Version, s.Booted.Format(time.DateTime), s.Boot.Seconds())
	_, _ = fmt.Fprintf(w, "folder\t%s\n", s.Dir)
	_, _ = fmt.Fprintf(w, "laptops\t%s\n", strings.Join(s.Laptops, " "))
	for _, n := range s.Nodes {
		_, _ = fmt.Fprintf(w, "%s\t%s\tpods %s\t%s\n", n.Name, word(n.Ready, "Ready", "NOT READY"), n.PodRange, n.Runtime)
	}
	for _, p := range s.Components {
		_, _ = fmt.Fprintf(w, "%s\t%s\tpid %d\n", p.Name, word(p.Running, "running", "ENDED"), p.PID)
	}
	return nil
}

func word(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

func kubeconfigCommand() *cobra.Command {
	return &cobra.Command{
		Use: "kubeconfig USER", Args: cobra.ExactArgs(1),
		Short: "Print the path of a user's kubeconfig: admin, alice or bob",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := openFor(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), c.Kubeconfig(args[0]))
			return err
		},
	}
}

func loadCommand() *cobra.Command {
	return &cobra.Command{
		Use: "load IMAGE_TAR...", Args: cobra.MinimumNArgs(1),
		Short: "Load image archives into both nodes",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := embedded.Open(cmd.Context(), options())
			if err != nil {
				return err
			}
			for _, tar := range args {
				if err := c.Load(cmd.Context(), tar); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func laptopCommand() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use: "laptop [--user USER] -- COMMAND [ARGS...]", Args: cobra.MinimumNArgs(1),
		Short: "Run a command at the laptop, which reaches the API server and nothing else",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := openFor(cmd.Context(), user)
			if err != nil {
				return err
			}
			return attach(c.Laptop("default").Command(cmd.Context(), user, args...))
		},
	}
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVar(&user, "user", "alice", "whose kubeconfig the command gets: admin, alice or bob")
	return cmd
}

func kubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "kubectl [--user USER] ARGS...",
		Short:              "Run the cluster's kubectl from inside, as admin unless said otherwise",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			user := "admin"
			switch {
			case len(args) >= 2 && args[0] == "--user":
				user, args = args[1], args[2:]
			case len(args) >= 1 && strings.HasPrefix(args[0], "--user="):
				user, args = strings.TrimPrefix(args[0], "--user="), args[1:]
			}
			c, err := openFor(cmd.Context(), user)
			if err != nil {
				return err
			}
			return attach(c.KubectlCommand(cmd.Context(), user, args...))
		},
	}
}

func openFor(ctx context.Context, user string) (*embedded.Cluster, error) {
	c, err := embedded.Open(ctx, options())
	if err != nil {
		return nil, err
	}
	return c, c.CheckUser(user)
}

// attach becomes the command, so that signals, terminal and exit code are its own.
func attach(cmd *exec.Cmd) error {
	if cmd.Err != nil {
		return cmd.Err
	}
	if err := syscall.Exec(cmd.Path, cmd.Args, cmd.Env); err != nil {
		return fmt.Errorf("run %s: %w", cmd.Path, err)
	}
	return nil
}
