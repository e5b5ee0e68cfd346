// A byte pipe over crypto/tls: stdin to the connection, the connection to stdout, and what it saw on stderr.
//
//	peer ROLE PORT WAY IDENTITY
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
)

func tell(what string, err error) {
	if err == nil {
		fmt.Fprintf(os.Stderr, "%s: EOF\n", what) // io.Copy takes io.EOF for success
	} else {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
	}
}

func must(err error) {
	if err != nil {
		tell("failed", err)
		os.Exit(1)
	}
}

func connection(role, port, identity string) *tls.Conn {
	if role == "client" {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{InsecureSkipVerify: true})
		must(err)
		return conn
	}
	certificate, err := tls.LoadX509KeyPair(identity, identity)
	must(err)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	must(err)
	fmt.Fprintln(os.Stderr, "listening", listener.Addr().(*net.TCPAddr).Port)
	conn, err := listener.Accept()
	must(err)
	listener.Close()
	return conn.(*tls.Conn)
}

func main() {
	role, port, way, identity := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	conn := connection(role, port, identity)
	must(conn.Handshake())
	sent := make(chan bool)
	go func() {
		if _, err := io.Copy(conn, os.Stdin); err != nil {
			tell("write", err)
		}
		var err error
		if way == "Close()" {
			err = conn.Close()
		} else {
			err = conn.CloseWrite()
		}
		if err != nil {
			tell("end", err)
		}
		sent <- true
	}()
	_, err := io.Copy(os.Stdout, conn)
	tell("read", err)
	os.Stdout.Close()
	<-sent
	conn.Close()
}
