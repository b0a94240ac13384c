// probe CA PORT HOST...: a request to each host.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	pem, err := os.ReadFile(os.Args[1])
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		panic("no root")
	}
	port := os.Args[2]
	for _, host := range os.Args[3:] {
		client := http.Client{Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			DisableKeepAlives: true,
			Dial:              func(_, _ string) (net.Conn, error) { return net.Dial("tcp", "127.0.0.1:"+port) },
		}}
		response, err := client.Get("https://" + net.JoinHostPort(host, port) + "/")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if response.StatusCode != 200 {
			panic(response.Status)
		}
		fmt.Println("accepted", host)
	}
}
