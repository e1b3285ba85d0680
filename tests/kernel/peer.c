/* What the peer's kernel needs a program for, and no shell has: datagrams, counted, and RFC 3948's sockets.
 *
 *   peer flood ADDRESS PORT COUNT OCTETS RATE   sends COUNT datagrams, RATE a second; prints how many went
 *   peer sink PORT COUNT SECONDS                counts datagrams until COUNT have come or SECONDS pass in silence
 *   peer encapsulation PORT SECONDS             receives UDP-encapsulated ESP for the kernel, IPv4 and IPv6
 */
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <linux/xfrm.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* linux/udp.h, whose struct udphdr clashes with the C library's. */
#define SOL_UDP_ 17
#define UDP_ENCAP_ 100
#define UDP_ENCAP_ESPINUDP_ 2
/* No datagram may be lost for want of room while the one CPU decrypts. */
#define RECEIVE_ROOM (32 << 20)

static long number(const char *text, long most)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*text == 0 || *end != 0 || value < 1 || value > most)
        errx(2, "%s is not a number from 1 to %ld", text, most);
    return value;
}

/* An IPv6 socket also receives IPv4 unless `family` says otherwise. */
static int listening(int family, long port, int only_ipv6)
{
    int descriptor = socket(family, SOCK_DGRAM, 0);
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    int is_six = family == AF_INET6;
    if (descriptor < 0)
        err(1, "socket");
    if (is_six && setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &only_ipv6, sizeof only_ipv6) != 0)
        err(1, "IPV6_V6ONLY");
    if (bind(descriptor, is_six ? (void *)&six : (void *)&four, is_six ? sizeof six : sizeof four) != 0)
        err(1, "bind to port %ld", port);
    return descriptor;
}

static void flood(char **argument)
{
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *target;
    long count = number(argument[2], 10000000), octets = number(argument[3], 65000);
    long pause = 1000000000 / number(argument[4], 1000000), sent = 0;
    char payload[65000] = {0};
    int descriptor, error = getaddrinfo(argument[0], argument[1], &hints, &target);
    struct timespec due;
    if (error != 0)
        errx(2, "%s: %s", argument[0], gai_strerror(error));
    descriptor = socket(target->ai_family, SOCK_DGRAM, 0);
    if (descriptor < 0 || connect(descriptor, target->ai_addr, target->ai_addrlen) != 0)
        err(1, "connect to %s", argument[0]);
    clock_gettime(CLOCK_MONOTONIC, &due);
    for (; sent < count; sent++) {
        while (send(descriptor, payload, octets, 0) < 0)
            if (errno != ENOBUFS && errno != EAGAIN)
                err(1, "send after %ld datagrams", sent);
        due.tv_nsec += pause;
        due.tv_sec += due.tv_nsec / 1000000000;
        due.tv_nsec %= 1000000000;
        /* Sleeps are coarse on a tick of 10 ms: so the pace holds on the whole, in bursts. */
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
    }
    printf("%ld\n", sent);
}

static void sink(char **argument)
{
    int descriptor = listening(AF_INET6, number(argument[0], 65535), 0), room = RECEIVE_ROOM;
    long wanted = number(argument[1], 10000000), count = 0;
    struct timeval patience = {.tv_sec = number(argument[2], 3600)};
    char payload[65536];
    if (setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) != 0 ||
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0)
        err(1, "setsockopt");
    while (count < wanted && recv(descriptor, payload, sizeof payload, 0) >= 0)
        count++;
    printf("%ld\n", count);
}

/* Encapsulated packets reach the socket although a policy asks for ESP between the two addresses. */
static void let_pass(int descriptor, int family)
{
    int level = family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6;
    int option = family == AF_INET ? IP_XFRM_POLICY : IPV6_XFRM_POLICY;
    for (int direction = XFRM_POLICY_IN; direction <= XFRM_POLICY_OUT; direction++) {
        struct xfrm_userpolicy_info policy = {.sel.family = family, .dir = direction, .action = XFRM_POLICY_ALLOW};
        if (setsockopt(descriptor, level, option, &policy, sizeof policy) != 0)
            err(1, "IP_XFRM_POLICY");
    }
}

static void encapsulation(char **argument)
{
    long port = number(argument[0], 65535), seconds = number(argument[1], 86400);
    int families[] = {AF_INET, AF_INET6}, kind = UDP_ENCAP_ESPINUDP_;
    for (int at = 0; at < 2; at++) {
        int descriptor = listening(families[at], port, 1);
        if (setsockopt(descriptor, SOL_UDP_, UDP_ENCAP_, &kind, sizeof kind) != 0)
            err(1, "UDP_ENCAP on port %ld", port);
        let_pass(descriptor, families[at]);
    }
    sleep(seconds);
}

int main(int count, char **argument)
{
    const struct { const char *name; int arguments; void (*run)(char **); } commands[] = {
        {"flood", 5, flood}, {"sink", 3, sink}, {"encapsulation", 2, encapsulation}};
    for (size_t at = 0; at < sizeof commands / sizeof *commands; at++)
        if (count == commands[at].arguments + 2 && strcmp(argument[1], commands[at].name) == 0)
            return commands[at].run(argument + 2), 0;
    errx(2, "usage: peer flood|sink|encapsulation ...");
}
