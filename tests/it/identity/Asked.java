import java.net.Authenticator;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.PasswordAuthentication;
import java.net.Proxy;
import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/** Both clients of Java, each with an Authenticator that knows a password when it is asked for one. */
public class Asked {
    public static void main(String[] args) throws Exception {
        URI uri = URI.create(args[0]);
        var proxy = new InetSocketAddress("127.0.0.1", Integer.parseInt(args[1]));
        var knows = new Authenticator() {
            @Override
            protected PasswordAuthentication getPasswordAuthentication() {
                boolean asked = getRequestorType() == RequestorType.PROXY && "keyferry".equals(getRequestingPrompt());
                return asked ? new PasswordAuthentication("ci", args[2].toCharArray()) : null;
            }
        };
        if (args[3].equals("HttpClient")) {
            var client = HttpClient.newBuilder().proxy(ProxySelector.of(proxy)).authenticator(knows).build();
            System.out.println(client.send(HttpRequest.newBuilder(uri).build(), BodyHandlers.ofString()).statusCode());
        } else {
            Authenticator.setDefault(knows);
            var connection = (HttpURLConnection) uri.toURL().openConnection(new Proxy(Proxy.Type.HTTP, proxy));
            System.out.println(connection.getResponseCode());
        }
    }
}
