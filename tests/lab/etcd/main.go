// etcd as a dependency: "go install" refuses its module because of the replace lines in it.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
