# Takes the executor's place in a container. Its argument says how it behaves.
#
#   GET /health       200
#   POST /sh          runs the body with bash, for whoever has the token; answers with what it
#                     wrote, its exit code in the last line
#   SIGUSR1           takes more memory than there is
use strict;
use warnings;
use IO::Socket::INET;

my $manner = $ARGV[0];
$| = 1;
if ($manner eq 'dies') {
    print "the stand-in cannot go on\n";
    exit 3;
}
print "the stand-in serves\n";
$SIG{TERM} = sub { print "the stand-in ends\n"; exit 0 };
if ($manner eq 'silent') {
    sleep 1000;
}
my $server = IO::Socket::INET->new(LocalPort => $ENV{PORT}, Listen => 50, ReuseAddr => 1)
    or die $!;
my $eaten = 2**30;
$SIG{USR1} = sub { $eaten = 'x' x $eaten };
$SIG{CHLD} = 'IGNORE';
while (1) {
    my $client = $server->accept or next;
    if (!fork) {
        $SIG{CHLD} = 'DEFAULT';
        $SIG{TERM} = 'DEFAULT';
        answer($client);
        exit 0;
    }
    close $client;
}

sub answer {
    my ($client) = @_;
    my $request = <$client>;
    return unless defined $request;
    my ($length, $given) = (0, '');
    while (my $line = <$client>) {
        $length = $1 if $line =~ /^content-length:\s*(\d+)/i;
        $given = $1 if $line =~ /^authorization: bearer (\S+)/i;
        last if $line =~ /^\r?\n$/;
    }
    my ($status, $body) = (200, "{}");
    if ($request =~ m{^POST /sh }) {
        open(my $file, '<', $ENV{EXECUTOR_API_TOKEN_FILE}) or die $!;
        if ($given ne <$file>) {
            ($status, $body) = (401, "");
        } else {
            read($client, my $script, $length);
            open(my $pipe, '-|', 'bash', '-c', "exec 2>&1; $script") or die $!;
            $body = do { local $/; <$pipe> } // '';
            close $pipe;
            $body .= "\n" . ($? & 127 ? 128 + ($? & 127) : $? >> 8);
        }
    }
    print $client "HTTP/1.1 $status X\r\nContent-Length: ", length $body,
        "\r\nConnection: close\r\n\r\n$body";
}
