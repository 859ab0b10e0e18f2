package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kubectl-tele/kubectl-tele/pkg/control/api"
	"github.com/kubectl-tele/kubectl-tele/pkg/hint"
	"github.com/kubectl-tele/kubectl-tele/pkg/mount"
)

type interceptOptions struct {
	f            *factory
	ports        []string
	to           string
	service      string
	container    string
	image        string
	timeout      time.Duration
	allowRestart bool
	quiet        bool
	logRequests  bool
	mirror       bool
	handlerDown  string
	takeOver     bool
	record       string
	secrets      bool
	mount        string
	mountCopy    string
	mountRW      bool
	noShortcut   bool
	match        matchOptions
	env          interceptEnv
	output       output

	command     []string
	spec        api.InterceptSpec
	sessionArgs []string
}

func newInterceptCommand(f *factory) *cobra.Command {
	o := &interceptOptions{f: f}
	cmd := &cobra.Command{
		Use:     "intercept WORKLOAD [--port [LOCAL][:PORT]] [--to HOST:PORT] [-- COMMAND [ARG...]]",
		GroupID: groupCore,
		Short:   "Answer a workload's traffic with a local process",
		Long: `Answer the traffic of a Deployment, StatefulSet or DaemonSet with a process on this
laptop. Every replica's traffic of one port goes there, or of several where --port is
given several times; probes stay with the app. svc/NAME stands for all the workloads
behind a Service, such as main and canary.

A small agent container joins the workload's pods, in one rolling update, and
is gone after leave. If this laptop vanishes, the app answers again within five
seconds, and so it does while the handler does not listen, unless you say
otherwise. Behind the agent the
app sees its own pod's address as the client's.

With --personal or --http-*, only the requests that match go to the handler, of
HTTP/1, HTTP/2 and gRPC without TLS; several people can each have their own, and
one more intercept can have the rest. The app gets all others as they were sent.

With a COMMAND, it is run as the handler with the environment of the workload's
container, but for what is wrong on a laptop (kubectl tele env --help lists it);
the intercept ends with it, and its exit code is this command's.`,
		Example: `  # Traffic of Deployment back goes to localhost:8080
  kubectl tele intercept back --port 8080

  # Of a StatefulSet
  kubectl tele intercept sts/db --port 5432

  # Of several ports, take the Service's port "http"
  kubectl tele intercept back --port 8080:http

  # Or two of them, in one rolling update
  kubectl tele intercept back --port 8080:http --port 9090:grpc

  # A port of UDP; what is of TCP too, such as 53, is that of TCP without /udp
  kubectl tele intercept dns --port 5353:53/udp

  # All workloads behind a Service
  kubectl tele intercept svc/back --port 8080

  # Only the requests that you send with a header of your own
  kubectl tele intercept back --port 8080 --personal
  kubectl tele intercept back --port 8080 --http-header x-branch=blue --http-path-prefix /cart

  # Watch production's requests in a debugger, which delays nobody
  kubectl tele intercept back --port 8080 --mirror

  # Keep what the handler is asked, to send it again from a debugger
  kubectl tele intercept back --port 8080 --personal --record back.har

  # A handler that is not on this machine
  kubectl tele intercept back --to 192.0.2.7:9000

  # Run the handler too, with the container's environment
  kubectl tele intercept back --port 8080 -- go run ./cmd/back

  # With its ConfigMaps, Secrets and other volumes below ./root
  kubectl tele intercept back --port 8080 --mount root -- sh -c 'cat $TELE_ROOT/etc/back/config.yaml'

  # Or leave that to an editor or to docker
  kubectl tele intercept back --port 8080 --env-file back.env`,
		RunE:              runE(o),
		ValidArgsFunction: f.completeWorkloads,
	}
	cmd.Flags().StringArrayVarP(&o.ports, "port", "p", nil, "`[LOCAL][:PORT]`: port of the handler on localhost, and the port to take, a Service's or container's name or number, or SERVICE:PORT, with /udp where it is of UDP (default: the only one); it may be given several times")
	cmd.Flags().StringVar(&o.to, "to", "", "`HOST:PORT` of the handler, instead of localhost")
	cmd.Flags().StringVar(&o.service, "service", "", "the Service whose port is meant, where several select the workload")
	cmd.Flags().StringVar(&o.container, "container", "", "`NAME` of the container whose environment and files are meant (default: the one that has the port)")
	cmd.Flags().StringVar(&o.mount, "mount", "", "show the container's volumes, ConfigMaps and Secrets among them, at its paths below this `DIR`, to read, for as long as the intercept lasts; COMMAND finds DIR in TELE_ROOT")
	cmd.Flags().StringVar(&o.mountCopy, "mount-copy", "", "copy the container's volumes below this `DIR` once, where they stay, for programs that write there and for machines without FUSE; COMMAND finds DIR in TELE_ROOT")
	cmd.Flags().BoolVar(&o.mountRW, "mount-rw", false, "with --mount, let files be changed, which changes those of a pod")
	_ = cmd.MarkFlagDirname("mount")
	_ = cmd.MarkFlagDirname("mount-copy")
	cmd.Flags().BoolVar(&o.noShortcut, "no-shortcut", false, "send this laptop's own connections to the Service through the cluster and back, too; else, while connected, they go to the handler at once")
	cmd.Flags().BoolVar(&o.allowRestart, "allow-restart", false, "accept a rolling update that costs a moment of downtime or data of the pods")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 3*time.Minute, "how long the rolling update may take")
	cmd.Flags().BoolVarP(&o.quiet, "quiet", "q", false, "print warnings and errors only")
	cmd.Flags().BoolVar(&o.logRequests, "log-requests", false, "log a line for each request that the handler answers; kubectl tele logs prints them")
	cmd.Flags().BoolVar(&o.mirror, "mirror", false, "send the handler copies, and drop what it answers: the app answers, and waits for nothing")
	cmd.Flags().StringVar(&o.handlerDown, "on-handler-down", "app", "who answers while the handler does not listen: `app`, or nobody: refuse")
	_ = cmd.RegisterFlagCompletionFunc("on-handler-down", cobra.FixedCompletions([]string{"app", "refuse"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().BoolVar(&o.takeOver, "take-over", false, "end a colleague's intercept that stands in the way and whose laptop is not reached; it does not come back while yours is there")
	cmd.Flags().StringVar(&o.record, "record", "", "keep the handler's requests and answers in this new `FILE`, an HTTP archive (.har); kubectl tele replay sends them again")
	cmd.Flags().BoolVar(&o.secrets, "record-secrets", false, "with --record, keep headers with credentials, too")
	o.match.addFlags(cmd.Flags())
	o.env.addFlags(cmd)
	addImageFlag(cmd, &o.image)
	o.output.addFlag(cmd)
	return cmd
}

func (o *interceptOptions) complete(cmd *cobra.Command, args []string) error {
	o.sessionArgs = o.f.configArgs(cmd)
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		o.command, args = args[dash:], args[:dash]
		if len(o.command) == 0 {
			return usageError(errors.New("no command after --"))
		}
	}
	if len(args) != 1 {
		return usageError(fmt.Errorf("one workload is needed, not %d", len(args)),
			"kubectl tele intercept WORKLOAD --port LOCAL", "kubectl tele list shows the workloads")
	}
	ports, err := o.portSpecs()
	if err != nil {
		return err
	}
	var me string
	if o.match.personal {
		place, err := o.f.place()
		if err != nil {
			return err
		}
		me = place.User
	}
	match, err := o.match.conditions(me)
	if err != nil {
		return err
	}
	if o.record != "" {
		if o.record, err = filepath.Abs(o.record); err != nil {
			return err
		}
	}
	dir, err := o.folder()
	if err != nil {
		return err
	}
	if err := o.env.complete(cmd.Flags(), len(o.command) > 0); err != nil {
		return err
	}
	o.spec = api.InterceptSpec{
		Workload: args[0], Ports: ports, Service: o.service, Container: o.container, Match: match,
		Mirror: o.mirror, Refuse: o.handlerDown == "refuse", TakeOver: o.takeOver,
		LogRequests: o.logRequests, Record: o.record, RecordSecrets: o.secrets,
		Dir: dir, DirWrite: o.mountRW, DirCopy: o.mountCopy != "", NoShortcut: o.noShortcut, Lazy: len(o.command) > 0, Hold: len(o.command) > 0, WithEnv: len(o.command) > 0 || len(o.env.files) > 0,
		AgentImage: agentImage(o.image), AllowRestart: o.allowRestart, Timeout: o.timeout,
	}
	return nil
}

// folder is the absolute path of what --mount or --mount-copy names; "" is none.
func (o *interceptOptions) folder() (string, error) {
	check, dir := mount.Check, o.mount
	switch {
	case o.mount != "" && o.mountCopy != "":
		return "", usageError(errors.New("--mount and --mount-copy exclude each other"), "--mount DIR shows the files, --mount-copy DIR copies them once")
	case o.mountRW && o.mount == "":
		return "", usageError(errors.New("--mount-rw is about --mount"), "--mount DIR --mount-rw")
	case o.mountCopy != "":
		check, dir = mount.CheckDir, o.mountCopy
	case o.mount == "":
		return "", nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	return dir, check(dir)
}

// portSpecs reads --port and --to.
func (o *interceptOptions) portSpecs() ([]api.PortSpec, error) {
	flags := o.ports
	if len(flags) == 0 {
		flags = []string{""}
	}
	if o.to != "" && len(flags) > 1 {
		return nil, usageError(errors.New("--to is the handler of one --port"), "--port 8080:http --port 9090:grpc takes both to localhost")
	}
	var all []api.PortSpec
	for _, flag := range flags {
		local, port, err := parsePort(flag)
		if err != nil {
			return nil, err
		}
		if o.to != "" && local != "" {
			return nil, usageError(errors.New("--to and a local port in --port exclude each other"), "--port :http --to "+o.to)
		}
		spec := api.PortSpec{Port: port, Handler: o.to}
		if local != "" {
			spec.Handler = net.JoinHostPort("localhost", local)
		}
		all = append(all, spec)
	}
	return all, nil
}

// portText is how the user names a port: NUMBER, or NUMBER/udp.
func portText(number uint16, protocol string) string {
	text := strconv.Itoa(int(number))
	if protocol != "" {
		text += "/" + protocol
	}
	return text
}

// parsePort splits [LOCAL][:PORT]. A PORT that begins with a name, such as
// SERVICE:PORT, may stand alone.
func parsePort(flag string) (local, port string, err error) {
	local, port, _ = strings.Cut(flag, ":")
	if strings.Trim(local, "0123456789") != "" {
		local, port = "", flag
	}
	if local != "" {
		if n, err := strconv.ParseUint(local, 10, 16); err != nil || n == 0 {
			return "", "", usageError(fmt.Errorf("--port %s: %q is not a port number", flag, local), "--port 8080:http takes port http to localhost:8080")
		}
	}
	return local, port, nil
}

func (o *interceptOptions) validate() error {
	if o.to != "" {
		host, port, err := net.SplitHostPort(o.to)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || host == "" || perr != nil || n == 0 {
			return usageError(fmt.Errorf("--to %s is not HOST:PORT", o.to), "--to 192.0.2.7:9000")
		}
	}
	if o.timeout <= 0 {
		return usageError(fmt.Errorf("--timeout must be more than 0, not %s", o.timeout))
	}
	if o.handlerDown != "app" && o.handlerDown != "refuse" {
		return usageError(fmt.Errorf("--on-handler-down %s is not known", o.handlerDown), "app or refuse")
	}
	if o.mirror && (o.handlerDown == "refuse" || o.logRequests) {
		return usageError(errors.New("--mirror excludes --log-requests and --on-handler-down refuse: the app answers"), "kubectl tele watch WORKLOAD shows the requests")
	}
	if o.mountCopy != "" && o.handlerDown == "refuse" {
		return usageError(errors.New("--mount-copy excludes --on-handler-down refuse: nobody would answer while files are copied"), "copy them before: kubectl tele mount WORKLOAD DIR --copy")
	}
	if o.secrets && o.record == "" {
		return usageError(errors.New("--record-secrets is about --record"), "--record FILE.har --record-secrets")
	}
	if _, err := os.Lstat(o.record); o.record != "" && err == nil {
		return hint.With(fmt.Errorf("record requests: %s exists", o.record), "choose another name, or remove it")
	}
	if err := validateEnv(o.env.syntax, o.env.selection); err != nil {
		return err
	}
	if len(o.command) > 0 {
		if _, err := exec.LookPath(o.command[0]); err != nil {
			return handlerResult(o.command[0], err)
		}
	}
	return o.output.validate()
}

func (o *interceptOptions) run(ctx context.Context) error {
	client, err := o.f.ensureSession(ctx, o.sessionArgs)
	if err != nil {
		return err
	}
	progress := newPrinter(o.f.ErrOut, o.quiet)
	defer progress.close()
	if len(o.command) > 0 {
		return o.runCommand(ctx, client, progress)
	}
	last, err := client.Intercept(ctx, o.spec, progress.event)
	tellInterrupted(ctx, progress)
	if err != nil {
		return err
	}
	if _, err := o.env.take(last.Env, o.spec.Dir, progress); err != nil {
		return errors.Join(err, client.Leave(context.WithoutCancel(ctx), leaveOf(last.Intercepts), progress.event))
	}
	progress.close()
	return o.print(last.Intercepts)
}

// leaveOf names exactly these intercepts.
func leaveOf(all []api.InterceptStatus) (spec api.LeaveSpec) {
	for _, st := range all {
		spec.IDs = append(spec.IDs, st.ID)
	}
	return spec
}

// tellInterrupted says what goes on when ctx has ended while the session was at
// work.
func tellInterrupted(ctx context.Context, progress *printer) {
	if ctx.Err() != nil {
		progress.event(api.Event{Text: "the session puts back what it changed; kubectl tele status shows when that is done", Warning: true})
	}
}

// print prints one intercept as an object, several as a list.
func (o *interceptOptions) print(all []api.InterceptStatus) error {
	if len(all) == 0 {
		return errors.New("the session did not say what it intercepts")
	}
	var object any = all
	if len(all) == 1 {
		object = all[0]
	}
	return o.output.print(o.f.Out, object, func(w io.Writer) {
		if o.quiet {
			return
		}
		for _, st := range all {
			doing, what := "Intercepting", "traffic goes"
			if st.Match != "" {
				what = "requests with " + st.Match + " go"
			}
			if st.Mirror {
				doing, what = "Mirroring", "copies of "+strings.TrimSuffix(strings.TrimSuffix(what, " goes"), " go")+" go"
			}
			_, _ = fmt.Fprintf(w, "%s %s port %s on %d pods: %s to %s\n", doing, st.Workload, portText(st.Port, st.Protocol), len(st.Agents), what, st.Handler)
		}
		st := all[0]
		if o.match.personal && len(st.Services) > 0 {
			_, _ = fmt.Fprintf(w, "  try it: %s\n", curl(o.spec.Match, st.Services[0]+"."+st.Namespace))
		}
		_, _ = fmt.Fprintf(w, "  give it back: kubectl tele leave %s\n", o.named(all))
	})
}

// named is what leave takes for all of them.
func (o *interceptOptions) named(all []api.InterceptStatus) string {
	for _, st := range all[1:] {
		if st.Workload != all[0].Workload {
			return o.spec.Workload // a Service
		}
	}
	return nameOf(all[0].Workload)
}
