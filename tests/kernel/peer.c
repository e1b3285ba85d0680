/* What the peer's kernel needs a program for, and no shell has: datagrams, counted, and RFC 3948's sockets.
 *
 *   peer flood ADDRESS PORT COUNT OCTETS     sends COUNT datagrams, as fast as the sink counts; prints how many went
 *   peer sink PORT COUNT SECONDS             counts datagrams until COUNT have come or SECONDS pass in silence
 *   peer encapsulation PORT SECONDS          receives UDP-encapsulated ESP for the kernel, IPv4 and IPv6
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
#include <unistd.h>

/* linux/udp.h, whose struct udphdr clashes with the C library's. */
#define SOL_UDP_ 17
#define UDP_ENCAP_ 100
#define UDP_ENCAP_ESPINUDP_ 2
/* A sink answers every so many datagrams; a flood has at most WINDOW answers outstanding. lab/src/flood.rs has the
 * same numbers: no queue on the way overflows on a machine of any speed, so that a lost datagram is a fault. */
#define DATAGRAMS_AN_ANSWER 64
#define WINDOW 4
#define ANSWER_PATIENCE 10
#define RECEIVE_ROOM (8 << 20)

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

static void wait_at_most(int descriptor, long seconds)
{
    struct timeval patience = {.tv_sec = seconds};
    if (setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0)
        err(1, "SO_RCVTIMEO");
}

static int connected(const char *address, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *target;
    int descriptor, error = getaddrinfo(address, port, &hints, &target);
    if (error != 0)
        errx(2, "%s: %s", address, gai_strerror(error));
    descriptor = socket(target->ai_family, SOCK_DGRAM, 0);
    if (descriptor < 0 || connect(descriptor, target->ai_addr, target->ai_addrlen) != 0)
        err(1, "connect to %s", address);
    freeaddrinfo(target);
    return descriptor;
}

static void flood(char **argument)
{
    long count = number(argument[2], 10000000), octets = number(argument[3], 65000), sent, answers = 0;
    int descriptor = connected(argument[0], argument[1]);
    char payload[65000] = {0}, answer;
    wait_at_most(descriptor, ANSWER_PATIENCE);
    for (sent = 0; sent < count; sent++) {
        for (; sent / DATAGRAMS_AN_ANSWER >= answers + WINDOW; answers++)
            if (recv(descriptor, &answer, 1, 0) < 0)
                err(1, "no answer %ld after %ld datagrams", answers, sent);
        while (send(descriptor, payload, octets, 0) < 0)
            if (errno != ENOBUFS && errno != EAGAIN)
                err(1, "send after %ld datagrams", sent);
    }
    printf("%ld\n", sent);
}

static void sink(char **argument)
{
    int descriptor = listening(AF_INET6, number(argument[0], 65535), 0);
    long wanted = number(argument[1], 10000000), count;
    int room = RECEIVE_ROOM;
    struct sockaddr_in6 source;
    char payload[65536];
    if (setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room) != 0)
        err(1, "SO_RCVBUFFORCE");
    wait_at_most(descriptor, number(argument[2], 3600));
    for (count = 0; count < wanted; count++) {
        socklen_t length = sizeof source;
        if (recvfrom(descriptor, payload, sizeof payload, 0, (void *)&source, &length) < 0)
            break;
        if ((count + 1) % DATAGRAMS_AN_ANSWER == 0 &&
            sendto(descriptor, payload, 1, 0, (void *)&source, length) < 0)
            err(1, "answer after %ld datagrams", count + 1);
    }
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
        {"flood", 4, flood}, {"sink", 3, sink}, {"encapsulation", 2, encapsulation}};
    for (size_t at = 0; at < sizeof commands / sizeof *commands; at++)
        if (count == commands[at].arguments + 2 && strcmp(argument[1], commands[at].name) == 0)
            return commands[at].run(argument + 2), 0;
    errx(2, "usage: peer flood|sink|encapsulation ...");
}
