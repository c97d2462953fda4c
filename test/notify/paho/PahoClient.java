import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.TimeUnit;

/** PahoClient PORT VERSION TOPIC: prints the first message on the topic. */
public class PahoClient {
  private static final ArrayBlockingQueue<String> HEARD = new ArrayBlockingQueue<>(100);

  public static void main(String[] args) throws Exception {
    String server = "tcp://127.0.0.1:" + args[0];
    if (args[1].equals("5")) five(server, args[2]);
    else three(server, args[2]);
    System.out.println(HEARD.poll(20, TimeUnit.SECONDS));
    System.exit(0);
  }

  private static void three(String server, String topic) throws Exception {
    var memory = new org.eclipse.paho.client.mqttv3.persist.MemoryPersistence();
    var client = new org.eclipse.paho.client.mqttv3.MqttClient(server, "paho-java-3", memory);
    client.connect();
    client.subscribe(topic, 1, (at, message) -> HEARD.add(new String(message.getPayload(), "UTF-8")));
  }

  private static void five(String server, String topic) throws Exception {
    var memory = new org.eclipse.paho.mqttv5.client.persist.MemoryPersistence();
    var client = new org.eclipse.paho.mqttv5.client.MqttClient(server, "paho-java-5", memory);
    client.setCallback(
        new org.eclipse.paho.mqttv5.client.MqttCallback() {
          public void messageArrived(String at, org.eclipse.paho.mqttv5.common.MqttMessage message) {
            HEARD.add(new String(message.getPayload(), java.nio.charset.StandardCharsets.UTF_8));
          }

          public void disconnected(org.eclipse.paho.mqttv5.client.MqttDisconnectResponse response) {}

          public void mqttErrorOccurred(org.eclipse.paho.mqttv5.common.MqttException error) {
            error.printStackTrace();
          }

          public void deliveryComplete(org.eclipse.paho.mqttv5.client.IMqttToken token) {}

          public void connectComplete(boolean again, String at) {}

          public void authPacketArrived(
              int code, org.eclipse.paho.mqttv5.common.packet.MqttProperties properties) {}
        });
    client.connect();
    client.subscribe(topic, 1);
  }
}
