// copier is the anchor of `make bench`: the least a user-space program can do
// between two TAP devices. It creates them and carries every frame from one
// to the other as it is, virtio header included: no parsing, no lookup, no
// rewriting. What the node needs beyond it is the price of being a firewall.
//
//	copier LEFT RIGHT
//
// One thread serves both directions, as the node's worker does on two cores,
// but it sleeps in poll as soon as a round was empty.

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef TUN_F_USO4 /* headers older than Linux 6.2 */
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

enum {
	HEADER_BYTES = 12, /* struct virtio_net_hdr_v1, as the node uses it */
	BATCH_MAX = 64,    /* frames of one direction before the other has its turn */
};

static char buffer[128 * 1024];

static void die(const char *what, const char *name)
{
	fprintf(stderr, "copier: %s %s: %s\n", what, name, strerror(errno));
	exit(1);
}

// raise brings the device up: only then does the kernel take its frames.
static void raise_device(const char *name)
{
	struct ifreq ifr = {0};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0)
		die("open a socket for", name);
	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	if (ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		die("read the flags of", name);
	ifr.ifr_flags |= IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &ifr) < 0)
		die("bring up", name);
	close(fd);
}

static int open_tap(const char *name)
{
	const unsigned tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	struct ifreq ifr = {0};
	int header = HEADER_BYTES;
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		die("open /dev/net/tun for", name);
	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	ifr.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		die("create", name);
	if (ioctl(fd, TUNSETVNETHDRSZ, &header) < 0)
		die("set the virtio header of", name);
	if (ioctl(fd, TUNSETOFFLOAD, tcp | TUN_F_USO4 | TUN_F_USO6) < 0 &&
	    ioctl(fd, TUNSETOFFLOAD, tcp) < 0)
		die("set the offloads of", name);
	raise_device(name);
	return fd;
}

// carry takes at most a batch across and says how many frames it was. What
// the other side does not take is lost, as on any wire.
static int carry(int from, int to)
{
	int n;

	for (n = 0; n < BATCH_MAX; n++) {
		ssize_t got = read(from, buffer, sizeof buffer);

		if (got <= 0) {
			if (got < 0 && errno != EAGAIN && errno != EINTR)
				die("read from", "a device");
			break;
		}
		if (write(to, buffer, got) < 0 && errno == EBADFD)
			die("write to", "a device");
	}
	return n;
}

int main(int argc, char **argv)
{
	struct pollfd fds[2] = {{.events = POLLIN}, {.events = POLLIN}};

	if (argc != 3) {
		fprintf(stderr, "usage: copier LEFT RIGHT\n");
		return 2;
	}
	fds[0].fd = open_tap(argv[1]);
	fds[1].fd = open_tap(argv[2]);
	for (;;) {
		int moved = carry(fds[0].fd, fds[1].fd) + carry(fds[1].fd, fds[0].fd);

		if (moved == 0 && poll(fds, 2, -1) < 0 && errno != EINTR)
			die("poll", "the devices");
	}
}
