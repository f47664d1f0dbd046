// Copyright The clerk-operator Authors.
// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// kubeconfigName is the name of the only cluster, user and context in a kubeconfig that WriteKubeconfig writes.
const kubeconfigName = "controlplane"

// WriteKubeconfig writes a kubeconfig file with mode 0600 through which kubectl, or a manager under test, reaches the
// API server of cfg as the user of cfg. Certificates and keys that cfg names by file are copied into the kubeconfig, a
// token file stays a reference since its content may change. A file that is already there is replaced in one step, so
// no reader sees half a file. The folder must exist.
func WriteKubeconfig(path string, cfg *rest.Config) error {
	kubeconfig, err := kubeconfigFor(cfg)
	if err != nil {
		return fmt.Errorf("writing kubeconfig %s: %w", path, err)
	}
	// CreateTemp gives mode 0600 from the first moment on.
	temp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return fmt.Errorf("writing kubeconfig: %w", err)
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	_, err = temp.Write(kubeconfig)
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("writing kubeconfig: %w", err)
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return fmt.Errorf("writing kubeconfig: %w", err)
	}
	return nil
}

// kubeconfigFor returns cfg as the content of a kubeconfig file.
func kubeconfigFor(cfg *rest.Config) ([]byte, error) {
	if cfg.AuthProvider != nil {
		return nil, fmt.Errorf("authentication provider %q cannot be written: use a token, a certificate or a password", cfg.AuthProvider.Name)
	}
	cfg = rest.CopyConfig(cfg)
	if err := rest.LoadTLSFiles(cfg); err != nil {
		return nil, fmt.Errorf("reading certificates: %w", err)
	}
	cluster := clientcmdapi.NewCluster()
	cluster.Server = cfg.Host
	cluster.CertificateAuthorityData = cfg.CAData
	cluster.InsecureSkipTLSVerify = cfg.Insecure
	cluster.TLSServerName = cfg.ServerName
	user := clientcmdapi.NewAuthInfo()
	user.ClientCertificateData = cfg.CertData
	user.ClientKeyData = cfg.KeyData
	user.Token = cfg.BearerToken
	user.TokenFile = cfg.BearerTokenFile
	user.Username = cfg.Username
	user.Password = cfg.Password
	user.Impersonate = cfg.Impersonate.UserName
	user.ImpersonateUID = cfg.Impersonate.UID
	user.ImpersonateGroups = cfg.Impersonate.Groups
	user.ImpersonateUserExtra = cfg.Impersonate.Extra
	user.Exec = cfg.ExecProvider
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters[kubeconfigName] = cluster
	kubeconfig.AuthInfos[kubeconfigName] = user
	kubeconfig.Contexts[kubeconfigName] = &clientcmdapi.Context{Cluster: kubeconfigName, AuthInfo: kubeconfigName}
	kubeconfig.CurrentContext = kubeconfigName
	return clientcmd.Write(*kubeconfig)
}
