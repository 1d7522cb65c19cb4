package config

// services are the names that may stand for a port (IANA's service names, and
// the common short ones). No alias may have one of these names.
var services = map[string]uint16{
	"afp": 548, "amqp": 5672, "amqps": 5671, "auth": 113, "bgp": 179, "bootpc": 68, "bootps": 67,
	"cassandra": 9042, "chargen": 19, "coap": 5683, "cvspserver": 2401, "daytime": 13, "dhcpv6-client": 546,
	"dhcpv6-server": 547, "dict": 2628, "discard": 9, "distcc": 3632, "domain": 53, "domain-s": 853, "echo": 7,
	"epmap": 135, "finger": 79, "ftp": 21, "ftp-data": 20, "ftps": 990, "ftps-data": 989, "git": 9418, "gopher": 70,
	"hkp": 11371, "http": 80, "http-alt": 8080, "https": 443, "https-alt": 8443, "imap": 143, "imaps": 993,
	"ipp": 631, "ipsec-nat-t": 4500, "irc": 6667, "ircs": 6697, "isakmp": 500, "iscsi-target": 3260,
	"kerberos": 88, "kpasswd": 464, "l2tp": 1701, "ldap": 389, "ldaps": 636, "llmnr": 5355, "lpd": 515, "mdns": 5353,
	"memcached": 11211, "microsoft-ds": 445, "mongodb": 27017, "mqtt": 1883, "mqtts": 8883, "ms-sql-m": 1434,
	"ms-sql-s": 1433, "ms-wbt-server": 3389, "munin": 4949, "mysql": 3306, "netbios-dgm": 138, "netbios-ns": 137,
	"netbios-ssn": 139, "netflow": 2055, "nfs": 2049, "nntp": 119, "nntps": 563, "nrpe": 5666, "ntp": 123,
	"openvpn": 1194, "pop3": 110, "pop3s": 995, "postgresql": 5432, "pptp": 1723, "printer": 9100, "radacct": 1813,
	"radius": 1812, "rdp": 3389, "redis": 6379, "rsync": 873, "rtmp": 1935, "rtsp": 554, "sflow": 6343, "shell": 514,
	"sip": 5060, "sips": 5061, "smtp": 25, "smtps": 465, "snmp": 161, "snmptrap": 162, "socks": 1080, "ssdp": 1900,
	"ssh": 22, "stun": 3478, "stuns": 5349, "submission": 587, "submissions": 465, "sunrpc": 111, "svn": 3690,
	"syslog": 514, "syslog-tls": 6514, "tacacs": 49, "telnet": 23, "telnets": 992, "teredo": 3544, "tftp": 69,
	"time": 37, "vnc": 5900, "whois": 43, "winrm": 5985, "wireguard": 51820, "x11": 6000, "xmpp-client": 5222,
	"xmpp-server": 5269, "zabbix-agent": 10050, "zabbix-trapper": 10051,
}

// service is the port of a name.
func service(name string) (uint16, bool) {
	port, found := services[name]
	return port, found
}
