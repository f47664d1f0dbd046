// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/clerk-operator/clerk-operator/internal/delivery"
	"github.com/clerk-operator/clerk-operator/test/controlplane"
	"github.com/clerk-operator/clerk-operator/test/installation"
)

// stateTimeout bounds how long a step may take to reach its state; a namespace alone takes five seconds to go.
const stateTimeout = time.Minute

// step is one thing that happens in Clerk, and what it comes to in the cluster.
type step struct {
	title string
	// post are the events, in the order in which they are delivered.
	post []delivery.Event
	// forged makes the events ones that somebody else signed.
	forged bool
	// happen is what happens in Clerk without any event.
	happen func()
	// run are the kubectl commands that a person would act with.
	run [][]string
	// until are the states that the step must reach.
	until []state
	// show are the kubectl commands that a person would look with.
	show [][]string
}

// state is a kubectl command and what it must print.
type state struct {
	command []string
	want    func(output string) bool
}

// prints is a state in which a command's output holds a text.
func prints(text string, command ...string) state {
	return state{command: command, want: func(output string) bool { return strings.Contains(output, text) }}
}

// answers is a state in which a command prints exactly a line.
func answers(line string, command ...string) state {
	return state{command: command, want: func(output string) bool { return strings.TrimSpace(output) == line }}
}

// stage is where the steps are played.
type stage struct {
	root   string
	cp     *controlplane.ControlPlane
	sender delivery.Sender
}

func (s *stage) say(line string) { fmt.Printf("\n\033[1m== %s\033[0m\n", line) }

// show runs kubectl and prints the command and what it says.
func (s *stage) show(ctx context.Context, command ...string) error {
	output, err := s.kubectl(ctx, command)
	fmt.Printf("$ kubectl %s\n%s", strings.Join(command, " "), output)
	if err != nil {
		return fmt.Errorf("kubectl %s: %w", strings.Join(command, " "), err)
	}
	return nil
}

func (s *stage) kubectl(ctx context.Context, command []string) (string, error) {
	cmd := s.cp.Kubectl(ctx, command...)
	cmd.Dir = s.root
	output, err := cmd.CombinedOutput()
	return string(output), err
}

// play delivers a step's events, waits for its states and shows them.
func (s *stage) play(ctx context.Context, step step) error {
	s.say(step.title)
	for _, event := range step.post {
		if err := s.post(ctx, event, step.forged); err != nil {
			return err
		}
	}
	if step.happen != nil {
		step.happen()
	}
	for _, command := range step.run {
		if err := s.show(ctx, command...); err != nil {
			return err
		}
	}
	for _, state := range step.until {
		if err := s.reach(ctx, state); err != nil {
			return err
		}
	}
	for _, command := range step.show {
		// can-i says no with its exit code, too; the states are what is asserted.
		output, _ := s.kubectl(ctx, command)
		fmt.Printf("$ kubectl %s\n%s", strings.Join(command, " "), output)
	}
	return nil
}

func (s *stage) post(ctx context.Context, event delivery.Event, forged bool) error {
	body, err := event.Body()
	if err != nil {
		return err
	}
	sender, want := s.sender, 200
	if forged {
		sender.Secret, want = "whsec_"+"bm90LXRoZS1kZW1vLXNlY3JldC1hdC1hbGw=", 400
	}
	answer, err := sender.Post(ctx, delivery.NewMessage(body))
	if err != nil {
		return err
	}
	fmt.Printf("POST %s -> %d %s", event.Type, answer.Code, answer.Body)
	if answer.Code != want {
		return fmt.Errorf("%s was answered with %d, want %d", event.Type, answer.Code, want)
	}
	return nil
}

func (s *stage) reach(ctx context.Context, state state) error {
	var last string
	err := wait.PollUntilContextTimeout(ctx, 200*time.Millisecond, stateTimeout, true, func(ctx context.Context) (bool, error) {
		last, _ = s.kubectl(ctx, state.command) // an error is output that does not fit yet
		return state.want(last), nil
	})
	if err != nil {
		return fmt.Errorf("kubectl %s did not come to say what it should; it says:\n%s", strings.Join(state.command, " "), last)
	}
	return nil
}

// explain says how to go on by hand.
func (s *stage) explain(manager *installation.Manager, instanceID string) {
	s.say("It is left running")
	fmt.Printf(`Look around:
  export KUBECONFIG=%s
  %s get clerk

Send an event, signed:
  export CLERK_WEBHOOK_SECRET=%s
  echo '{"id":"user_2demo","updated_at":%d}' |
    go run ./cmd/kubectl-clerk send-test --url %s --instance-id %s --type user.created --data -

Send one that is not, and be refused:
  curl -i -X POST -d '{}' %s

The manager's log is %s.
Stop it with Ctrl-C, or: kill %d
`, s.cp.Kubeconfig(), filepath.Join("bin", "controlplane", "kubectl"), signingSecret, time.Now().UnixMilli(),
		s.sender.URL, instanceID, s.sender.URL, manager.Process.LogPath(), os.Getpid())
}
