// go_peer.go: echo and lines in Go, on package net, as a peer.
//
// One goroutine for each connection, and GOMAXPROCS(1). echo reads into a buffer and writes what
// was read: the loop of every tutorial. (io.Copy(conn, conn), the other way to write it, moves the
// bytes by splice(2) through a pipe, which costs a small message more.) lines reads with
// bufio.Reader and writes with bufio.Writer, both of bufio's default size, and flushes only when
// the reader is about to wait for the network: the replies to lines that came together leave
// together.
//
// Neighbours: scripts/peers.sh builds it; README.md compares the peers.
// Ownership: a connection and its buffers belong to its goroutine.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

const (
	bufferBytes = 4096
	acceptRetry = 50 * time.Millisecond
)

func echo(conn net.Conn) {
	buffer := make([]byte, bufferBytes)
	for {
		count, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if _, err := conn.Write(buffer[:count]); err != nil {
			return
		}
	}
}

// flushingReader flushes the writer before each read of the connection, which may block.
type flushingReader struct {
	conn   net.Conn
	writer *bufio.Writer
}

func (r flushingReader) Read(buffer []byte) (int, error) {
	if err := r.writer.Flush(); err != nil {
		return 0, err
	}
	return r.conn.Read(buffer)
}

func answerLines(conn net.Conn) {
	writer := bufio.NewWriter(conn)
	reader := bufio.NewReader(flushingReader{conn, writer})
	for {
		// A slice of the reader's buffer; of a line longer than that, its next part.
		line, err := reader.ReadSlice('\n')
		if _, failed := writer.Write(line); failed != nil {
			return
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if err == io.EOF {
				writer.Flush()
			}
			return
		}
	}
}

func serve(listener net.Listener, handle func(net.Conn)) {
	for {
		conn, err := listener.Accept()
		if err != nil { // no descriptor left: a little later there may be
			time.Sleep(acceptRetry)
			continue
		}
		go func() {
			defer conn.Close()
			handle(conn) // TCP_NODELAY is on: package net sets it on every connection
		}()
	}
}

func listen(port int, path string) (net.Listener, string, error) {
	if path == "" {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return nil, "", err
		}
		return listener, listener.Addr().String(), nil
	}
	if status, err := os.Lstat(path); err == nil && status.Mode()&os.ModeSocket != 0 {
		os.Remove(path) // left behind by an earlier process
	}
	listener, err := net.Listen("unix", path)
	return listener, "unix:" + path, err
}

func fail(status int, message string) {
	fmt.Fprintf(os.Stderr, "go: %s\n", message)
	os.Exit(status)
}

// parse returns the port, the unix path, and what serves a connection.
func parse() (int, string, func(net.Conn)) {
	arguments := os.Args[1:]
	handle := echo
	if len(arguments) > 0 && (arguments[0] == "echo" || arguments[0] == "lines") {
		if arguments[0] == "lines" {
			handle = answerLines
		}
		arguments = arguments[1:]
	}
	flags := flag.NewFlagSet("go", flag.ContinueOnError)
	port := flags.Int("port", -1, "TCP `port` on 127.0.0.1; 0 picks a free one")
	path := flags.String("unix", "", "listen on a unix socket at `path`; a stale one is replaced")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: go_peer [echo|lines] --port N | --unix PATH")
		flags.PrintDefaults()
	}
	if err := flags.Parse(arguments); err == flag.ErrHelp {
		os.Exit(0)
	} else if err != nil {
		os.Exit(2)
	}
	if flags.NArg() > 0 {
		fail(2, fmt.Sprintf("%q is no mode; give echo or lines, first", flags.Arg(0)))
	}
	if (*port >= 0) == (*path != "") || *port > 65535 {
		fail(2, "give either --port N (0 to have one picked, at most 65535) or --unix PATH")
	}
	return *port, *path, handle
}

func main() {
	port, path, handle := parse()
	runtime.GOMAXPROCS(1)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	listener, address, err := listen(port, path)
	if err != nil {
		fail(1, err.Error())
	}
	fmt.Printf("go listening on %s\n", address)
	go serve(listener, handle)
	<-stop
}
