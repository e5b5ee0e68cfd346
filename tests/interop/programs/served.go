// Files over HTTPS with net/http.
//
//	served PORT CERT KEY DIRECTORY
package main

import (
	"crypto/tls"
	"log"
	"net/http"
	"os"
)

func main() {
	server := &http.Server{
		Addr:         "127.0.0.1:" + os.Args[1],
		Handler:      http.FileServer(http.Dir(os.Args[4])),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 only
	}
	log.Fatal(server.ListenAndServeTLS(os.Args[2], os.Args[3]))
}
