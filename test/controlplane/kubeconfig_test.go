// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

func TestWriteKubeconfig(t *testing.T) {
	g := NewWithT(t)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	g.Expect(os.WriteFile(path, []byte("what was there before"), 0o644)).To(Succeed())
	caFile := filepath.Join(t.TempDir(), "ca.crt")
	g.Expect(os.WriteFile(caFile, []byte("certificate"), 0o600)).To(Succeed())

	g.Expect(WriteKubeconfig(path, &rest.Config{
		Host:            "https://127.0.0.1:1",
		BearerToken:     "secret",
		Impersonate:     rest.ImpersonationConfig{UserName: "alice", Groups: []string{"staff"}},
		TLSClientConfig: rest.TLSClientConfig{CAFile: caFile, ServerName: "localhost"},
	})).To(Succeed())

	info, err := os.Stat(path)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(info.Mode().Perm()).To(Equal(os.FileMode(0o600)))
	g.Expect(os.ReadDir(filepath.Dir(path))).To(HaveLen(1), "no temporary file is left")
	cfg, err := clientcmd.BuildConfigFromFlags("", path)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(cfg.Host).To(Equal("https://127.0.0.1:1"))
	g.Expect(cfg.BearerToken).To(Equal("secret"))
	g.Expect(cfg.Impersonate.UserName).To(Equal("alice"))
	g.Expect(cfg.Impersonate.Groups).To(Equal([]string{"staff"}))
	g.Expect(cfg.CAData).To(BeEquivalentTo("certificate"))
	g.Expect(cfg.ServerName).To(Equal("localhost"))
}

func TestWriteKubeconfigFails(t *testing.T) {
	g := NewWithT(t)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	g.Expect(WriteKubeconfig(path, &rest.Config{AuthProvider: &clientcmdapi.AuthProviderConfig{Name: "oidc"}})).
		To(MatchError(ContainSubstring(`authentication provider "oidc" cannot be written`)))
	g.Expect(WriteKubeconfig(path, &rest.Config{TLSClientConfig: rest.TLSClientConfig{CAFile: path}})).
		To(MatchError(ContainSubstring("reading certificates: ")))
	g.Expect(WriteKubeconfig(filepath.Join(path, "missing"), &rest.Config{})).
		To(MatchError(ContainSubstring("writing kubeconfig: ")))
	g.Expect(path).NotTo(BeAnExistingFile())
}
