// Command coredns is CoreDNS with the plugins that a cluster's DNS needs and no
// others: fewer plugins build faster and make a smaller image.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
)

func init() {
	// The order is the order in which a query passes the plugins: template must
	// stand before kubernetes to answer the zones that are not the cluster's.
	dnsserver.Directives = []string{
		"ready", "health", "prometheus", "errors", "log", "loadbalance", "cache",
		"template", "kubernetes",
	}
}

func main() { coremain.Run() }
