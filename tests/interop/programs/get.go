// The body at a URL, to stdout, with net/http.
//
//	get URL CA
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	pem, err := os.ReadFile(os.Args[2])
	must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	response, err := (&http.Client{Transport: transport}).Get(os.Args[1])
	must(err)
	_, err = io.Copy(os.Stdout, response.Body)
	must(err)
	response.Body.Close()
	transport.CloseIdleConnections()
}
