// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

// Package controlplane starts and stops a real Kubernetes control plane on this machine: etcd, kube-apiserver and, when
// asked for, kube-controller-manager. Tests, the demo and the benchmarks run against it where a fake API server would
// hide what matters: admission, authorization, garbage collection, a namespace that has to terminate, an API server
// that goes away, data that an older backup takes the place of.
//
//	cp, err := controlplane.Start(ctx, controlplane.Options{ControllerManager: true})
//	if err != nil {
//		return err
//	}
//	defer cp.Stop()
//	client, err := kubernetes.NewForConfig(cp.Config())
//
// The binaries come from "make controlplane". Everything listens on 127.0.0.1 only, on free ports, so any number of
// control planes can run at the same time. On Linux nothing is left running when the program ends without calling Stop,
// not even when it is killed; see Process.
//
// There are no nodes and no scheduler: a Pod can be created but never runs, and no controller beyond those listed at
// Options.ControllerManager acts on workloads.
package controlplane
