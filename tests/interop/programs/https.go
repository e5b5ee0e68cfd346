// Serves two answers over HTTPS: https PORT CERT KEY
package main

import (
	"bytes"
	"net/http"
	"os"
)

func main() {
	small := bytes.Repeat([]byte("<p>hello</p>"), 10)
	big := make([]byte, 8<<20)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		if r.URL.Path == "/big" {
			w.Write(big)
		} else {
			w.Write(small)
		}
	})
	server := &http.Server{Addr: "127.0.0.1:" + os.Args[1], Handler: handler}
	panic(server.ListenAndServeTLS(os.Args[2], os.Args[3]))
}
